"""ngc-learn: what the docstrings of ngclearn.utils.optim say."""

from optbench.claim import Document, Measurement, Numbers, Ruling, graded
from optbench.claim.rules import only_rounding

document = Document(
    name="ngc-learn", title="ngclearn 3.2.1: docstrings of ngclearn.utils.optim",
    optimizers=("ngc_adam", "ngc_nag", "ngc_sgd"),
    source="https://github.com/NACLab/ngc-learn (6cfadd5)",
)  # fmt: skip
claim = document.claim
EQUATIONS = Measurement.of("ngc:equations", steps=50, shape=[3, 2], seed=0)
DEFAULTS = Measurement.of("ngc:defaults")
DOCUMENTED = {
    "adam": {"eta": 0.001, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8},
    "nag": {"eta": 0.001, "mu": 0.9},
    "sgd": {"eta": 0.001},
}
"""The defaults that the docstrings of the three step functions state."""


def follows(m: Numbers, rule: str, equations: str) -> Ruling:
    why = f"50 steps in float64 against {equations} in NumPy, relative to the distance the parameters move."
    return only_rounding(m["apart"][rule], why)


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
    why = "The first step is one of gradient descent, whatever mu is; phi starts from zeros and is not used."
    return only_rounding(m["first nag step over a plain one"], why)


@claim("step size coefficient for NAG update (Default: 0.001)", "0.001", DEFAULTS)
def nag_step_size(m: Numbers) -> Ruling:
    """The default step size of NAG is 0.001."""
    default, documented = m["nag"]["eta"], DOCUMENTED["nag"]["eta"]
    times = (
        f"{default / documented:g} times the documented value" if default != documented else "as documented"
    )
    return Ruling(graded(default == documented), f"{default:g}", f"The signature has {default:g}, {times}.")


@claim("Default: 0.001, 0.9, 0.999, 1e-8; mu 0.9; sgd 0.001", "all other defaults", DEFAULTS)
def other_defaults(m: Numbers) -> Ruling:
    """The other defaults are those that the docstrings state."""
    stated = {(rule, name): value for rule, values in DOCUMENTED.items() for name, value in values.items()}
    del stated["nag", "eta"]
    wrong = [(rule, name) for (rule, name), value in stated.items() if m[rule].get(name) != value]
    others = ", ".join(f"{rule} {name} {m[rule].get(name):g}" for rule, name in wrong)
    return Ruling(
        graded(not wrong),
        f"{len(stated) - len(wrong)} of {len(stated)} agree",
        f"Otherwise: {others}." if wrong else "Adam's four, NAG's mu and SGD's eta are as stated.",
    )
