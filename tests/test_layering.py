"""The import rules of the design, read off the syntax tree."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

import vderain.engines
import vderain.training

PACKAGES = {
    "vderain": Path(vderain.__file__).parent,
    "vderain.engines": Path(vderain.engines.__file__).parent,
    "vderain.training": Path(vderain.training.__file__).parent,
}


def modules():
    for name, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            yield ".".join([name, *(part for part in inside if part != "__init__")]), path


@functools.cache
def parsed(path):
    return ast.parse(path.read_text())


@functools.cache
def imports(path):
    """The names that a module imports."""
    return frozenset(names_imported(path))


def names_imported(path):
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are spelled vderain.…"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


ALL = dict(modules())
# What is imported -> the modules (by the start of their name) that may.
ONLY = {
    "av": ["vderain.media"],
    "openvino": ["vderain.engines.graphs.runtime"],
    "torch_tensorrt": ["vderain.engines.backends.tensorrt"],
    "tensorrt": ["vderain.engines.backends.tensorrt"],
    "click": ["vderain.cli"],
    "ray": ["vderain.batch.ray.cluster", "vderain.batch.ray.executor"],
    "tqdm": ["vderain.cli", "vderain.training"],
    "vderain.cli": ["vderain.cli", "vderain.__main__"],
    "vderain.api": ["vderain", "vderain.cli"],
    "vderain.pipeline": [
        "vderain.api",
        "vderain.batch",
        "vderain.diagnostics.bench",
        "vderain.cli",
    ],
}
# Modules (by the start of their name) -> what they must not import.
NEVER = {
    "vderain.engines": ["vderain.training", "vderain.media", "vderain.pipeline"],
    # of engines only what they have in common: the registry imports the backends
    "vderain.engines.backends": [
        f"vderain.engines.{name}"
        for name in ("background", "pool", "profile", "registry", "resize")
    ],
    "vderain.training": ["vderain.engines", "vderain.pipeline", "vderain.media.sink"],
    "vderain.pipeline": ["vderain.engines", "vderain.media", "torch"],
    "vderain.network": ["vderain.engines", "vderain.training", "vderain.media"],
    "vderain.media": ["torch", "vderain.engines", "vderain.training", "vderain.pipeline"],
    "vderain.media.source": ["vderain.media.sink", "vderain.media.edit", "vderain.media.live"],
    "vderain.media.sink": ["vderain.media.edit", "vderain.media.live"],
    **{
        f"vderain.media.{name}": ["vderain.media.sink", "vderain.media.edit", "vderain.media.live"]
        for name in ("span", "building", "encoding", "output")
    },
    "vderain.live": ["vderain.training"],
    "vderain.batch": ["vderain.training"],
}
# Rooms, each of which may import from those before it in its row, never from those after it.
ROWS = [
    ["vderain.network", "vderain.media", "vderain.batch"],
    ["vderain.network", "vderain.media", "vderain.live"],
    ["vderain.engines.store", "vderain.engines.graphs", "vderain.engines.backends"],
    [
        *(
            "vderain.media.bitstream",
            "vderain.media.frames",
            "vderain.media.mp4",
            "vderain.media.io",
            "vderain.media.carry",
        ),
        *("vderain.media.verify", "vderain.media.gpu", "vderain.media.stills"),
        *("vderain.media.edit", "vderain.media.live"),
    ],
    ["vderain.live.scheduling", "vderain.live.web"],
    ["vderain.batch.rain", "vderain.batch.report"],
    ["vderain.batch.ray", "vderain.batch.clips", "vderain.batch.report"],
    [
        *("vderain.training.config", "vderain.training.rain", "vderain.training.data"),
        *("vderain.training.losses", "vderain.training.methods"),
        *("vderain.training.evaluation", "vderain.training.adapt"),
    ],
]
# Modules (by the start of their name) that import torch; all others are imported where it is not installed.
WITH_TORCH = [
    "vderain.training",
    "vderain.network",
    "vderain.engines.graphs.export",
    "vderain.engines.graphs.traced",
    *(
        f"vderain.engines.backends.{name}"
        for name in (
            "cuda",
            "device",
            "gpu_slot",
            "lumas",
            "nvidia",
            "reference",
            "surfaces",
            "tensorrt",
        )
    ),
]
# Of those, modules that nevertheless do without it.
WITHOUT_TORCH = [
    "vderain.training",
    "vderain.training.config",
    "vderain.network.card",
    "vderain.network.change",
    "vderain.network.change.apply",
    "vderain.network.config",
    "vderain.network.change.darkening",
    "vderain.network.samples",
    "vderain.network.inference.memory",
]
MOST_MODULES = 12  # of a folder


def within(name, prefix):
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("name", ALL)
def test_imports_follow_the_design(name):
    for imported in imports(ALL[name]):
        for guarded, allowed in ONLY.items():
            if within(imported, guarded):
                exact = name == "vderain" and "vderain" in allowed
                assert exact or any(within(name, p) for p in allowed if p != "vderain"), (
                    f"{name} imports {imported}"
                )
        for start, forbidden in NEVER.items():
            if within(name, start):
                assert not any(within(imported, prefix) for prefix in forbidden), (
                    f"{name} imports {imported}"
                )


@pytest.mark.parametrize("name", ALL)
def test_no_room_imports_from_a_room_above_it(name):
    for row in ROWS:
        own = next((place for place, room in enumerate(row) if within(name, room)), len(row))
        for imported in imports(ALL[name]):
            assert not any(within(imported, room) for room in row[own + 1 :]), (
                f"{name} imports {imported}"
            )


def test_the_rooms_exist():
    for room in {room for row in ROWS for room in row}:
        assert ALL[room].name == "__init__.py"


def test_no_folder_is_a_drawer():
    folders = {}
    for path in ALL.values():
        if not path.stem.startswith("__"):
            folders.setdefault(path.parent, []).append(path.stem)
    assert {folder: names for folder, names in folders.items() if len(names) > MOST_MODULES} == {}


def test_the_rules_see_the_real_modules():
    assert {"vderain.pipeline", "vderain.engines.backends.openvino", "vderain.media.source"} <= set(
        ALL
    )
    assert "av" in {i.split(".")[0] for i in imports(ALL["vderain.media.source"])}


def test_what_derains_is_imported_without_torch():
    light = [
        name
        for name in ALL
        if not any(within(name, start) for start in WITH_TORCH) and name != "vderain.__main__"
    ]
    code = "import sys, importlib; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
    code += f"for name in {[*light, *WITHOUT_TORCH]}: importlib.import_module(name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("vderain", ["torch", "av", "cv2", "openvino", "numpy"]),
        ("vderain.cli", ["torch", "av", "cv2", "openvino"]),
        *(
            (f"vderain.cli.{name}", ["torch", "openvino"])
            for name in (
                *("run", "batch", "engine"),
                *("training.train", "training.export", "training.evaluate"),
            )
        ),
    ],
)
def test_importing_stays_light(module, heavy):
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def classes(trees):
    """Name of a class -> the names of its bases, and the private names that its body defines."""
    found = {}
    for tree in trees:
        for node in (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)):
            bases = {ast.unparse(base).split("[")[0].split(".")[-1] for base in node.bases}
            names = {
                target.id
                for line in node.body
                for target in (*getattr(line, "targets", ()), getattr(line, "target", None))
                if isinstance(target, ast.Name)
            }
            names |= {line.name for line in node.body if isinstance(line, ast.FunctionDef)}
            private = {name for name in names if name.startswith("_") and name[:2] != "__"}
            above, own = found.setdefault(node.name, (set(), set()))
            above |= bases
            own |= private
    return found


def overridden(found):
    """Private names that a class has of its own and that one above it has too."""
    for name, (_, own) in found.items():
        above, queue = set(), [name]
        while queue:
            fresh = found.get(queue.pop(), (set(), set()))[0] - above
            above |= fresh
            queue += fresh
        for base in above & set(found):
            yield from (f"{name}.{member} of {base}" for member in own & found[base][1])


def test_no_class_overrides_a_private_member_of_another():
    trees = map(parsed, ALL.values())
    assert sorted(overridden(classes(trees))) == []


def test_private_members_that_are_overridden_are_seen():
    tree = ast.parse(
        "class A:\n    _x = 1\n    def _open(self): ...\n    def run(self): ...\n"
        "class B(A): ...\n"
        "class C(m.B):\n    _x: int = 2\n    def _open(self): ...\n    def run(self): ...\n"
    )
    assert sorted(overridden(classes([tree]))) == ["C._open of A", "C._x of A"]
