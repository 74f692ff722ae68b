"""The equations of psgd_torch as a plain NumPy program in float64, for what no trace shows; written apart from ours.

Everything is dense: a factor is a matrix also where it is diagonal, an inverse is formed, Kronecker products are
multiplied out.
"""

import numpy as np

EPS = np.finfo(np.float64).eps
TINY = np.finfo(np.float64).tiny


def bound(a, rows, scale):
    """The lower bound of |a| from rows [32, n]; the scale of the original is the largest diagonal entry, or entry."""
    a = a / (scale + TINY)
    lengths = [np.linalg.norm(row) for row in a]
    longest = a[lengths.index(max(lengths))]
    rows = np.array([longest + np.sign(longest @ row) * row for row in rows])
    for _ in range(2):
        rows = rows @ a
        rows = np.array([row / (np.linalg.norm(row) + TINY) for row in rows]) @ a
    return (scale + TINY) * max(np.linalg.norm(row) for row in rows)


def turned(q, rows, cubic):
    """Q after one step of the Procrustes problem."""
    r = q.T - q
    r = r / (bound(r, rows, np.abs(r).max()) + TINY)
    t = [np.trace(np.linalg.matrix_power(r, i) @ q) for i in (1, 2, 3)]
    eye = np.eye(len(q))
    if not cubic:
        a = min(1 / 8, -t[0] / t[1]) if t[1] < 0 else 1 / 8
        return (eye + a * r + a**2 / 2 * r @ r) @ q
    if not (t[0] > 0 and t[2] < 0):
        return q
    # The larger root of the derivative of the trace, t1 + a t2 + 3/8 a^2 t3.
    a = min(1 / 3, max(np.roots([3 / 8 * t[2], t[1], t[0]]).real))
    return (eye + a * r + a**2 / 2 * r @ r + a**3 / 8 * r @ r @ r) @ q


def moved(dQ, q, e, k, turns):
    """Q after a step of size k with E = T1 - T2; `turns` are the draws of rotations."""
    if dQ == "EQ":
        return q - k * np.triu(e) @ q
    if dQ == "QEP":
        return q - k * e @ q
    if dQ == "QEQ":
        return q - k * q @ e
    if dQ in ("QUAD", "QUAD4P"):
        side = np.eye(len(q)) - (k / 2 if dQ == "QUAD" else k) * e
        p = side @ q @ side
        return (p + p.T) / 2
    q = q - k * e @ q
    if dQ == "Q0.5EQ1.5":
        return turned(q, turns, False)
    for rows in turns:
        q = turned(q, rows, True)
        if np.abs(q.T - q).max() < 0.001 * np.abs(q).max():
            break
    return q


def along(q, x, axis):
    return np.moveaxis(np.tensordot(q, x, axes=(1, axis)), 0, axis)


def unfold(x, axis):
    return np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1)


class Leaf:
    """The Kronecker factors of one leaf."""

    def __init__(self, shape, dQ, scale, max_skew=1.0):
        self.dQ, n = dQ, np.prod(shape)
        self.diagonal = [size <= 1 or size**2 > max_skew * n for size in shape]
        power = (2 if dQ in ("QUAD4P", "PRO4P") else 1) / len(shape)
        self.q = [scale**power * np.eye(size) for size in shape]
        self.L = [0.0] * len(shape)

    def apply(self, x):
        for axis, q in enumerate(self.q):
            x = along(q if self.dQ in ("QUAD4P", "PRO4P") else q.T @ q, x, axis)
        return x

    def balance(self):
        sizes = [np.abs(q).max() for q in self.q]
        mean = np.exp(np.mean(np.log(sizes)))
        self.q = [q * mean / size for q, size in zip(self.q, sizes, strict=True)]

    def fit(self, h, v, noise, draw, uniform, lr, betaL):
        """One update from the damped h; v is None in whitening."""
        if self.dQ == "QEP":
            self.balance()
        old, ph = list(self.q), self.apply(h)
        a, b = h, noise if v is None else v
        for axis, q in enumerate(old):
            a, b = along(q, a, axis), along(np.linalg.inv(q).T, b, axis)
        for axis, q in enumerate(old):
            n = len(q)
            mean = h.size / n * np.eye(n)
            if self.dQ == "EQ":
                t1, t2 = (unfold(x, axis) @ unfold(x, axis).T for x in (a, b))
            else:
                side = q if self.dQ == "QEP" else np.eye(n)
                x = unfold(ph, axis)
                t1 = side @ x @ x.T @ side.T
                t2 = side @ (mean if v is None else unfold(v, axis) @ unfold(v, axis).T) @ side.T
            if self.diagonal[axis]:
                t1, t2 = np.diag(np.diag(t1)), np.diag(np.diag(t2))
                size = np.max(np.diag(t1 + t2))
            elif v is None and self.dQ not in ("EQ", "QEP"):
                size = bound(t1, draw("bound", axis), np.max(np.diag(t1))) + h.size / n
            else:
                size = bound(t1 + t2, draw("bound", axis), np.max(np.diag(t1 + t2)))
            self.L[axis] = max(betaL * self.L[axis] + (1 - betaL) * size, size)
            turns = () if self.diagonal[axis] else draw("turn", axis)
            dQ = self.dQ
            if self.diagonal[axis] and dQ in ("Q0.5EQ1.5", "PRO4P"):
                dQ = "QEQ"  # without a rotation; diagonal matrices commute
            self.q[axis] = moved(dQ, q, t1 - t2, lr / self.L[axis], turns)
        if self.dQ != "QEP" and len(old) > 1 and uniform < 0.01:
            self.balance()


class Vector:
    """The dense factor of all parameters."""

    def __init__(self, n, dQ, scale):
        self.dQ, self.L = dQ, 0.0
        self.q = scale ** (2 if dQ in ("QUAD4P", "PRO4P") else 1) * np.eye(n)

    def apply(self, x):
        return (self.q if self.dQ in ("QUAD4P", "PRO4P") else self.q.T @ self.q) @ x

    def fit(self, h, v, turns, lr, betaL):
        a, b = self.apply(h), v
        if self.dQ == "EQ":
            a, b = self.q @ h, np.linalg.inv(self.q).T @ v
        if self.dQ == "QEP":
            a, b = self.q @ a, self.q @ v
        size = a @ a + b @ b
        self.L = max(betaL * self.L + (1 - betaL) * size, size)
        self.q = moved(self.dQ, self.q, np.outer(a, a) - np.outer(b, b), lr / self.L, turns)


def damped(h, noise, damping=1e-9):
    return h + (damping + EPS * np.abs(h)) * noise


def first_scale(hs, vs=None, damping=1e-9):
    scale = (max(np.mean(h**4) for h in hs) + damping**4) ** (-1 / 8)
    if vs is None:
        return scale
    return scale * np.mean(np.concatenate([v.ravel() for v in vs]) ** 2) ** 0.25


SHAPES = {"T": (3, 4, 2), "W": (4, 3), "b": (5,), "s": ()}
STEPS, RATE = 6, 0.1


class Run:
    """A made-up stream of gradients and products, and what the equations make of it.

    Factors are balanced at every second fit; Q starts at the given scale or at the first step's.
    """

    def __init__(self, method, dQ, mode, **options):
        self.method, self.dQ, self.hessian, self.options = method, dQ, mode == "hessian", options
        self.rng = np.random.default_rng(0)
        self.shapes = {leaf: SHAPES[leaf] or (1,) for leaf in sorted(SHAPES)}
        self.params = self.drawn()
        self.first = {leaf: param.reshape(SHAPES[leaf]) for leaf, param in self.params.items()}
        self.m = {leaf: np.zeros(shape) for leaf, shape in self.shapes.items()}
        self.held = None

    def drawn(self, scale=1.0):
        return {leaf: scale * self.rng.standard_normal(shape) for leaf, shape in self.shapes.items()}

    def start(self, hs, vs):
        scale = self.options.get("preconditioner_init_scale")
        if self.method == "dense_newton":
            return Vector(flat(hs).size, self.dQ, scale or first_scale([flat(hs)], [flat(vs)]))
        scale = scale or first_scale(list(hs.values()), list(vs.values()) if self.hessian else None)
        return {leaf: Leaf(shape, self.dQ, scale) for leaf, shape in self.shapes.items()}

    def fit(self, c, hs, vs):
        """Update the preconditioner; returns the draws by our names."""
        draws, normal = {}, self.rng.standard_normal
        rates = {"lr": self.options.get("lr_preconditioner", 0.1), "betaL": self.options.get("betaL", 0.9)}

        def draw(name, shape):
            many = "turn" in name and self.dQ == "PRO4P"
            return draws.setdefault(f"fit.{name}", normal((10, *shape) if many else shape))

        if isinstance(self.held, Vector):
            n = flat(hs).size
            h = damped(flat(hs), draw("damping.all", (n,)))
            self.held.fit(h, flat(vs), draw("turn", (32, n)), **rates)
            return draws
        for leaf, shape in self.shapes.items():
            noise = draw(f"damping.{leaf}", shape)
            uniform = draws[f"balance_u.{leaf}"] = 0.5 * (c % 2)

            def about(what, axis, leaf=leaf, shape=shape):
                return draw(f"{what}.{leaf}.{axis}", (32, shape[axis]))

            v = vs[leaf] if self.hessian else None
            self.held[leaf].fit(damped(hs[leaf], noise), v, noise, about, uniform, **rates)
        return draws

    def update(self):
        """P m, clipped."""
        if isinstance(self.held, Vector):
            u = parted(self.held.apply(flat(self.m)), self.shapes)
        else:
            u = {leaf: self.held[leaf].apply(m) for leaf, m in self.m.items()}
        if self.hessian:
            limit = self.options.get("grad_clip_max_norm", np.inf)
            return {leaf: part * min(1, limit / np.linalg.norm(flat(u))) for leaf, part in u.items()}
        sizes = {leaf: np.sqrt(np.mean(part**2)) for leaf, part in u.items()}
        return {leaf: np.clip(part * min(1, 2.0 / sizes[leaf]), -10, 10) for leaf, part in u.items()}

    def step(self, c):
        """One step, in the form of a recorded one."""
        grads, hvps, vs, chance = self.drawn(1.0 + c), self.drawn(), self.drawn(), self.rng.random()
        if self.held is None:
            self.held = self.start(hvps if self.hessian else grads, vs)
        b = min(c / (c + 1), self.options.get("momentum", 0.0))
        self.m = {leaf: b * m + (1 - b) * grads[leaf] for leaf, m in self.m.items()}
        hs = hvps if self.hessian else grads if self.options.get("whiten_grad", True) else self.m
        due = self.hessian or chance < self.options.get("preconditioner_update_probability", 1.0)
        first = self.options.get("update_preconditioner_first", True)
        draws = {"update_u": chance} | (self.fit(c, hs, vs) if due and first else {})
        u = self.update()
        draws |= self.fit(c, hs, vs) if due and not first else {}
        self.params = {leaf: param - RATE * u[leaf] for leaf, param in self.params.items()}
        trees = {"grads": grads, "hvp": hvps, "probe": vs, "params": self.params}
        shaped = {
            name: {leaf: each.reshape(SHAPES[leaf]) for leaf, each in tree.items()}
            for name, tree in trees.items()
        }
        shaped["probe"] = {f"probe.{leaf}": v for leaf, v in shaped["probe"].items()}
        named = [{"name": name, "value": np.asarray(value)} for name, value in draws.items()]
        return {"t": c + 1, **shaped, "draws": named, "state": recorded(self.held)}


def trace(method, dQ, mode, **options):
    """A run in the form of the recorded traces, with named draws and the options of ours."""
    run = Run(method, dQ, mode, **options)
    given = {"learning_rate": RATE, "dQ": dQ, **options}
    return {
        "id": f"{method} {dQ} {mode}",
        "dtype": "float64",
        "leaf_order": sorted(SHAPES),
        "options": given if method == "dense_newton" else {**given, "mode": mode},
        "init_params": run.first,
        "steps": [run.step(c) for c in range(STEPS)],
    }


def flat(tree):
    return np.concatenate([tree[leaf].ravel() for leaf in sorted(tree)])


def parted(vector, shapes):
    sizes = np.cumsum([np.prod(shapes[leaf]) for leaf in sorted(shapes)])[:-1]
    parts = zip(sorted(shapes), np.split(vector, sizes), strict=True)
    return {leaf: part.reshape(shapes[leaf]) for leaf, part in parts}


def recorded(held):
    if isinstance(held, Vector):
        return {"Q": held.q.copy(), "L": held.L}
    return {
        name: {
            "Q": [np.diag(q).copy() if d else q.copy() for q, d in zip(leaf.q, leaf.diagonal, strict=True)],
            "L": list(leaf.L),
        }
        for name, leaf in held.items()
    }
