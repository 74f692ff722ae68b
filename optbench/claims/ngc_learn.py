"""ngc-learn: what the docstrings of ngclearn.utils.optim say."""

from __future__ import annotations

from optbench.claims import Document, Measurement, Numbers, Ruling, claim, graded

ROUNDING = 1e-12
EQUATIONS = Measurement(call="ngc:equations", inputs={"steps": 50, "shape": [3, 2], "seed": 0})
DEFAULTS = Measurement(call="ngc:defaults")
DOCUMENTED = {
    "adam": {"eta": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "nag": {"eta": 0.001, "mu": 0.9},
    "sgd": {"eta": 0.001},
}
"""The defaults that the docstrings of the three step functions state."""


def follows(m: Numbers, rule: str, text: str) -> Ruling:
    """Whether a rule does what its docstring's equations say."""
    apart = m["apart"][rule]
    return Ruling(
        graded(apart < ROUNDING, apart < 1e-5),
        f"{apart:.1g} apart",
        f"50 steps in float64 against {text} in NumPy, relative to how far the parameters get.",
    )


@claim("param = param - lr * g1_unbiased / (sqrt(g2_unbiased) + epsilon)", "five equations", EQUATIONS)
def adam_equations(m: Numbers) -> Ruling:
    """Adam's step follows the equations of its docstring."""
    return follows(m, "adam", "the five equations")


@claim("phi = param - update * lr; param = phi + (phi - phi_previous) * mu", "two equations", EQUATIONS)
def nag_equations(m: Numbers) -> Ruling:
    """NAG's step follows the equations of its docstring."""
    return follows(m, "nag", "the two equations (with the step size of the code)")


@claim("stochastic gradient descent (SGD) recipe", "param - update * eta", EQUATIONS)
def sgd_equations(m: Numbers) -> Ruling:
    """SGD's step is a step of gradient descent."""
    return follows(m, "sgd", "gradient descent")


@claim("mu = 0 iff t <= 1 (first iteration)", "no momentum at the first step", EQUATIONS)
def nag_first_step(m: Numbers) -> Ruling:
    """NAG's first step has no momentum."""
    apart = m["first nag step over a plain one"]
    return Ruling(
        graded(apart < ROUNDING),
        f"{apart:.1g} from a plain step",
        "The first step is one of gradient descent, whatever mu is; phi starts from zeros and is not used.",
    )


@claim("step size coefficient for NAG update (Default: 0.001)", "0.001", DEFAULTS)
def nag_step_size(m: Numbers) -> Ruling:
    """The default step size of NAG is 0.001."""
    found, said = m["nag"]["eta"], DOCUMENTED["nag"]["eta"]
    return Ruling(
        graded(found == said),
        f"{found:g}",
        f"The signature has {found:g}, {found / said:g} times what the docstring says."
        if found != said
        else "The signature has the same.",
    )


@claim("Default: 0.001, 0.9, 0.999, 1e-8; mu 0.9; sgd 0.001", "all other defaults", DEFAULTS)
def other_defaults(m: Numbers) -> Ruling:
    """The other defaults are those that the docstrings state."""
    pairs = [
        (rule, name, value, m[rule].get(name))
        for rule, fields in DOCUMENTED.items()
        for name, value in fields.items()
        if (rule, name) != ("nag", "eta")
    ]
    wrong = [f"{rule} {name} {found:g}" for rule, name, value, found in pairs if found != value]
    return Ruling(
        graded(not wrong),
        f"{len(pairs) - len(wrong)} of {len(pairs)} agree",
        "Adam's four, NAG's mu and SGD's eta are as stated."
        if not wrong
        else f"Otherwise: {', '.join(wrong)}.",
    )


document = Document(
    name="ngc-learn",
    title="ngclearn 3.2.1: docstrings of ngclearn.utils.optim",
    source="https://github.com/NACLab/ngc-learn (6cfadd5)",
    optimizers=("ngc_adam", "ngc_nag", "ngc_sgd"),
    claims=(adam_equations, nag_equations, sgd_equations, nag_first_step, nag_step_size, other_defaults),
)
