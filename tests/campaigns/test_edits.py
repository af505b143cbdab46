"""What counts as changed: a table of edits, each to a flow of its own, and whole sessions over all of them.

All flows run, then twice what changed, which is nothing. Then everything is edited at once, and what must run
is what runs. The edits of one flow concern no other one.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import TinyProject

Act = Callable[[Path, Path], None]

HEAD = """
# %%
import os
import sys
from pathlib import Path

ROOT = Path(config["_project_root"])
HERE = ROOT / "inputs" / {id!r}
for left in Path().glob("in*"):
    left.unlink()


def native(path):
    import ctypes

    libc = ctypes.CDLL(None)
    handle = libc.open(os.fsencode(path), os.O_RDONLY)
    buffer = ctypes.create_string_buffer(1 << 16)
    size = libc.read(handle, buffer, len(buffer))
    libc.close(handle)
    return buffer.raw[:size].decode("latin-1")

# %%
"""
TAIL = """
# %%
Path("out.txt").write_text(str(v))
"""


@dataclass(frozen=True)
class Edit:
    """A flow, what it reads, and what is done to that.

    Attributes:
        code: assigns `v`; HERE is the folder of its inputs, `native(path)` reads as a library in C does.
        act: takes that folder and the project.
        files: below that folder; a name that begins with `/` is below the project.
        config: `{here}` in it is that folder from the project.
        runs: whether the instance must run after the edit, or must not.
        short: whether it belongs to the short selection.
    """

    id: str
    code: str
    act: Act
    files: dict[str, str | bytes] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    runs: bool = True
    short: bool = False

    def place(self, root: Path, name: str) -> Path:
        return root / name[1:] if name.startswith("/") else root / "inputs" / self.id / name

    def make(self, project: TinyProject) -> None:
        project.flow(self.id, HEAD.format(id=self.id) + self.code + TAIL)
        text = json.dumps(self.config).replace("{here}", f"inputs/{self.id}")
        project.config(f"flows/{self.id}.json", **json.loads(text))
        (project.root / "inputs" / self.id).mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            put(self.place(project.root, name), content)


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def place(here: Path, root: Path, name: str) -> Path:
    return root / name[1:] if name.startswith("/") else here / name


def written(name: str, content: str | bytes = "2") -> Act:
    """Another content for a file, or a new one, as an editor saves it: by a new file in its place."""

    def act(here: Path, root: Path) -> None:
        path = place(here, root, name)
        put(path.with_name(path.name + ".new"), content)
        path.with_name(path.name + ".new").replace(path)

    return act


def replaced(name: str, old: str, new: str) -> Act:
    def act(here: Path, root: Path) -> None:
        path = place(here, root, name)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return act


def appended(name: str, content: bytes = b"x") -> Act:
    return lambda here, root: put(place(here, root, name), place(here, root, name).read_bytes() + content)


def removed(name: str) -> Act:
    return lambda here, root: place(here, root, name).unlink()


def sql(name: str, text: str) -> Act:
    def act(here: Path, root: Path) -> None:
        with sqlite3.connect(place(here, root, name)) as connection:
            connection.executescript(text)
        connection.close()

    return act


def nothing(here: Path, root: Path) -> None:
    """No edit at all."""


def database() -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("create table t(x); insert into t values(1)")
        return connection.serialize()


DB = database()
READ = 'v = (HERE / "a.txt").read_text()\n'
ONE: dict[str, str | bytes] = {"a.txt": "1"}
NATIVE = 'v = native(ROOT / "inputs/{id}/a.bin")\n'
LIBRARY = next(Path(sysconfig.get_path("stdlib")).glob("lib-dynload/_bisect*.so"), None)
COMPILED = LIBRARY.read_bytes() if LIBRARY else b""
SELECT = '.execute("select x from t").fetchall()\n'


def named(id: str, value: object, **more: Any) -> Edit:
    """A file that only C reads, and that the config names in some way."""
    code = f'v = native(ROOT / "inputs/{id}/a.bin")\n'
    return Edit(id, code, written("a.bin"), {"a.bin": "1"}, {"f": value}, **more)


def family(id: str, name: str, other: str, act: Act | None = None, **more: Any) -> Edit:
    """A named file, and another one that belongs to it; only C reads them."""
    code = f"v = [native(HERE / name) for name in ({name!r}, {other!r}) if (HERE / name).exists()]\n"
    files: dict[str, str | bytes] = {name: "1"} if act else {name: "1", other: "1"}
    return Edit(id, code, act or written(other), files, {"f": "{here}/" + name}, **more)


def arguments(id: str, code: str, **more: Any) -> Edit:
    """A file that another program reads."""
    return Edit(id, "import subprocess\n" + code, written("a.bin"), {"a.bin": "1"}, **more)


WORKER = """
import os
from pathlib import Path


def read(path):
    return Path(path).read_text()
"""
POOL = """
sys.path.insert(0, str(HERE))
import {module}
from concurrent.futures import ProcessPoolExecutor
import multiprocessing

context = multiprocessing.get_context("{method}")
with ProcessPoolExecutor(1, mp_context=context) as pool:
    v = pool.submit({module}.read, str(HERE / "a.txt")).result()
"""


def pool(id: str, method: str, act: Act | None = None, **more: Any) -> Edit:
    code = POOL.format(method=method, module=f"work_{id}")
    return Edit(id, code, act or written("a.txt"), {**ONE, f"work_{id}.py": WORKER}, **more)


def module(id: str, code: str, files: dict[str, str | bytes], act: Act, **more: Any) -> Edit:
    return Edit(id, "sys.path.insert(0, str(HERE))\n" + code, act, files, **more)


EDITS: list[Edit] = [
    # --- what Python opens, lists and imports, in the ordinary way ---
    Edit("open_text", READ, written("a.txt"), ONE, short=True),
    Edit("open_same_size_and_time", READ, lambda here, _: same_time(here / "a.txt"), ONE),
    Edit("open_touched", READ, lambda here, _: os.utime(here / "a.txt"), ONE, runs=False, short=True),
    Edit("open_chmod", READ, lambda here, _: (here / "a.txt").chmod(0o600), ONE, runs=False),
    Edit("open_equal", READ, written("a.txt", "1"), ONE, runs=False),
    Edit("open_other_file", READ, written("b.txt"), {**ONE, "b.txt": "1"}, runs=False),
    Edit(
        "open_gzip",
        'import gzip\nv = gzip.open(HERE / "a.gz").read()\n',
        lambda here, _: zipped(here, "2"),
        {"a.gz": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff3\x04\x00\xb7\xef\xdc\x83\x01\x00\x00\x00"},
    ),
    Edit(
        "open_mmap",
        'import mmap\nwith open(HERE / "a.txt", "rb") as f:\n    v = mmap.mmap(f.fileno(), 0, '
        "prot=mmap.PROT_READ)[:]\n",
        written("a.txt"),
        ONE,
    ),
    Edit("open_os", 'v = os.read(os.open(HERE / "a.txt", os.O_RDONLY), 9)\n', written("a.txt"), ONE),
    Edit(
        "open_append_and_read",
        'with open(HERE / "a.txt", "a+") as f:\n    f.seek(0)\n    v = f.read()\n',
        written("a.txt"),
        ONE,
    ),
    Edit("open_update", 'with open(HERE / "a.txt", "r+") as f:\n    v = f.read()\n', written("a.txt"), ONE),
    Edit(
        "open_thread",
        "import threading\nfound = []\nt = threading.Thread(target=lambda: found.append("
        '(HERE / "a.txt").read_text()))\nt.start()\nt.join()\nv = found\n',
        written("a.txt"),
        ONE,
    ),
    Edit(
        "open_missing",
        'try:\n    v = (HERE / "a.txt").read_text()\nexcept OSError:\n    v = 0\n',
        written("a.txt"),
        short=True,
    ),
    Edit(
        "open_linecache",
        'import linecache\nv = linecache.getline(str(HERE / "a.txt"), 1)\n',
        written("a.txt"),
        ONE,
    ),
    Edit(
        "open_numpy", 'import numpy\nv = numpy.memmap(HERE / "a.txt", mode="r")[0]\n', written("a.txt"), ONE
    ),
    Edit(
        "open_pandas",
        'import pandas\nv = pandas.read_csv(HERE / "a.txt")\n',
        written("a.txt", "x\n2\n"),
        {"a.txt": "x\n1\n"},
    ),
    Edit("list_folder", "v = sorted(os.listdir(HERE))\n", written("b.txt"), ONE, short=True),
    Edit("list_deep", 'v = sorted(HERE.rglob("*.txt"))\n', written("x/b.txt"), ONE),
    Edit(
        "list_on_path",
        'sys.path.insert(0, str(HERE))\nv = sorted(p.name for p in HERE.glob("*.csv"))\n',
        written("b.csv"),
        ONE,
        short=True,
    ),
    Edit(
        "list_on_path_last",
        "sys.path.append(str(HERE))\nv = sorted(os.listdir(HERE))\n",
        removed("a.txt"),
        ONE,
    ),
    Edit("copytree", 'import shutil\nshutil.copytree(HERE, "copy")\nv = 1\n', written("b.txt"), ONE),
    Edit(
        "folder_of_flows",
        'v = sorted(p.name for p in (ROOT / "flows").glob("list_x_*.txt"))\n',
        written("/flows/list_x_1.txt"),
        short=True,
    ),
    # --- hidden folders of the project ---
    Edit(
        "hidden_config",
        'v = (ROOT / ".config/s1.toml").read_text()\n',
        written("/.config/s1.toml"),
        {"/.config/s1.toml": "1"},
        short=True,
    ),
    Edit(
        "hidden_local",
        'v = (ROOT / ".local/s2.toml").read_text()\n',
        written("/.local/s2.toml"),
        {"/.local/s2.toml": "1"},
    ),
    Edit("hidden_env", 'v = (ROOT / ".env/dev").read_text()\n', written("/.env/dev"), {"/.env/dev": "1"}),
    Edit(
        "hidden_file",
        'v = (ROOT / ".env.hidden_file").read_text()\n',
        written("/.env.hidden_file"),
        {"/.env.hidden_file": "1"},
    ),
    Edit(
        "hidden_below",
        'v = (HERE / ".params/a.json").read_text()\n',
        written(".params/a.json"),
        {".params/a.json": "1"},
    ),
    Edit(
        "hidden_listed",
        'v = sorted(p.name for p in (HERE / ".d").iterdir())\n',
        written(".d/b.json"),
        {".d/a.json": "1"},
    ),
    Edit(
        "hidden_cache",
        'v = (ROOT / ".cache/x").read_text()\n',
        written("/.cache/x"),
        {"/.cache/x": "1"},
        runs=False,
    ),
    # --- names of our own files elsewhere ---
    Edit(
        "ours_opened",
        'v = (HERE / "result.json").read_text()\n',
        written("result.json"),
        {"result.json": "1"},
        short=True,
    ),
    Edit(
        "ours_named",
        'v = (ROOT / config["f"]).read_text()\n',
        written("result.json"),
        {"result.json": "1"},
        {"f": "{here}/result.json"},
        short=True,
    ),
    Edit(
        "ours_in_named_folder",
        'v = native(HERE / "solver/result.json")\n',
        written("solver/result.json"),
        {"solver/result.json": "1"},
        {"d": "{here}/solver"},
    ),
    Edit(
        "ours_log",
        'v = (HERE / "x_execution_output.txt").read_text()\n',
        written("x_execution_output.txt"),
        {"x_execution_output.txt": "1"},
    ),
    Edit(
        "ours_config",
        'v = (HERE / "x_config.json").read_text()\n',
        written("x_config.json"),
        {"x_config.json": "1"},
    ),
    Edit(
        "ours_report",
        'v = (HERE / "conductor_status_report.json").read_text()\n',
        written("conductor_status_report.json"),
        {"conductor_status_report.json": "1"},
    ),
    Edit(
        "ours_both",
        'v = (HERE / "result.json").read_text()\n',
        written("result.json"),
        {"result.json": "1", "x_config.json": "{}", "x_execution_output.txt": ""},
    ),
    Edit(
        "ours_notebook",
        'v = (HERE / "x.ipynb").read_text()\n',
        written("x.ipynb"),
        {"x.ipynb": "1", "x_config.json": "{}", "x_execution_output.txt": ""},
    ),
    # --- staged by links ---
    Edit(
        "link_symbolic",
        'os.symlink(HERE / "a.txt", "in.txt")\nv = open("in.txt").read()\nos.unlink("in.txt")\n',
        written("a.txt"),
        ONE,
        short=True,
    ),
    Edit(
        "link_kept",
        'Path("in.txt").symlink_to(HERE / "a.txt")\nv = native("in.txt")\n',
        written("a.txt"),
        ONE,
    ),
    Edit(
        "link_hard",
        'os.link(HERE / "a.txt", "in.txt")\nv = open("in.txt").read()\n',
        written("a.txt"),
        ONE,
        short=True,
    ),
    Edit(
        "link_hard_native",
        'Path("in.txt").hardlink_to(HERE / "a.txt")\nv = native("in.txt")\n',
        written("a.txt"),
        ONE,
    ),
    Edit(
        "link_relative",
        'os.symlink(os.path.relpath(HERE / "a.txt"), "in.txt")\nv = open("in.txt").read()\n',
        written("a.txt"),
        ONE,
    ),
    Edit("link_folder", 'os.symlink(HERE, "in")\nv = open("in/a.txt").read()\n', written("a.txt"), ONE),
    Edit("link_folder_native", 'os.symlink(HERE, "in")\nv = native("in/a.txt")\n', written("a.txt"), ONE),
    Edit("link_folder_new", 'os.symlink(HERE, "in")\nv = sorted(os.listdir("in"))\n', written("b.txt"), ONE),
    Edit(
        "link_own",
        'Path("x.txt").write_text("1")\nos.symlink("x.txt", "y.txt")\nv = open("y.txt").read()\n',
        nothing,
        runs=False,
    ),
    Edit(
        "link_by_program",
        'import subprocess\nsubprocess.run(["ln", "-s", str(HERE / "a.txt"), "in.txt"])\n'
        'v = open("in.txt").read()\n',
        written("a.txt"),
        ONE,
    ),
    # --- files of one family ---
    family("shp_dbf", "z.shp", "z.dbf", short=True),
    family("shp_shx", "z.shp", "z.shx"),
    family("shp_prj", "z.shp", "z.prj"),
    family("shp_cpg_new", "z.shp", "z.cpg", written("z.cpg")),
    family("shp_upper", "Z.SHP", "Z.DBF"),
    family("shp_by_dbf", "z.dbf", "z.cpg"),
    family("tab_dat", "z.tab", "z.dat"),
    family("tab_map", "z.tab", "z.map"),
    family("tab_id", "z.TAB", "z.ID"),
    family("mif_mid", "z.mif", "z.mid"),
    family("hdr_img", "z.hdr", "z.img"),
    family("img_hdr", "z.img", "z.hdr"),
    family("bil_hdr", "z.bil", "z.hdr"),
    family("tif_tfw", "z.tif", "z.tfw", short=True),
    family("tif_aux", "z.tif", "z.tif.aux.xml"),
    family("tif_ovr", "z.tif", "z.tif.ovr"),
    family("tif_aux_new", "z.tif", "z.tif.aux.xml", written("z.tif.aux.xml")),
    family("grd_gri", "z.grd", "z.gri"),
    family("jpg_jgw", "z.jpg", "z.jgw"),
    family("not_of_it", "z.shp", "z.csv", runs=False, short=True),
    family("not_of_it_2", "z.tif", "z.txt", runs=False),
    family("not_of_it_3", "z.csv", "z.dbf", runs=False),
    Edit(
        "vrt_source",
        'v = native(HERE / "data/a.tif")\n',
        written("data/a.tif"),
        {
            "data/a.tif": "1",
            "z.vrt": '<VRT><SourceFilename relativeToVRT="1">data/a.tif</SourceFilename></VRT>',
        },
        {"f": "{here}/z.vrt"},
    ),
    Edit(
        "sqlite_wal",
        'v = [native(HERE / n) for n in ("d.db", "d.db-wal") if (HERE / n).exists()]\n',
        written("d.db-wal"),
        {"d.db": "1"},
        {"f": "{here}/d.db"},
    ),
    Edit(
        "sqlite_wal_other_name",
        'v = native(HERE / "d.dat")\n',
        written("d.dat-wal"),
        {"d.dat": DB},
        {"f": "{here}/d.dat"},
    ),
    # --- how a config names a file ---
    named("name_plain", "{here}/a.bin", short=True),
    named("name_nested", {"x": [{"y": "{here}/a.bin"}]}),
    named("name_key", {"{here}/a.bin": 1}),
    named("name_glob", "{here}/*.bin"),
    named("name_deep_glob", "inputs/**/name_deep_glob/a.bin", short=True),
    named("name_dots", "inputs/../{here}/./a.bin"),
    named("name_absolute", "{project_root}/{here}/a.bin"),
    named("name_variable", "$EDITS_PROJECT/{here}/a.bin", short=True),
    named("name_variable_braces", "${{EDITS_PROJECT}}/{here}/a.bin".replace("{{", "{").replace("}}", "}")),
    named("name_file_uri", "file://{project_root}/{here}/a.bin", short=True),
    named("name_file_uri_relative", "file:{here}/a.bin?mode=ro"),
    named("name_file_uri_localhost", "file://localhost{project_root}/{here}/a.bin"),
    named("name_hdf", "{here}/a.bin::/table", short=True),
    named("name_hdf_colon", "{here}/a.bin:/group/table"),
    named("name_zip", "{here}/a.bin!member.csv", short=True),
    named("name_zip_uri", "zip://{here}/a.bin!member.csv"),
    named("name_zip_uri_absolute", "zip://{project_root}/{here}/a.bin!a/b.shp"),
    named("name_zip_chain", "zip://member.csv::{here}/a.bin"),
    named("name_zip_chain_file", "zip://member.csv::file://{project_root}/{here}/a.bin"),
    named("name_jar", "jar:file:{project_root}/{here}/a.bin!/x"),
    named("name_vsi", "/vsizip/{here}/a.bin/layer.shp"),
    named("name_member", "{here}/a.bin/inside/x.csv"),
    named("name_sheet", "{here}/a.bin#Sheet1", short=True),
    named("name_layer", "{here}/a.bin|layername=roads"),
    named("name_gdal", 'NETCDF:"{here}/a.bin":temperature'),
    named("name_gdal_bare", "HDF5:{here}/a.bin://band"),
    named("name_sqlalchemy", "sqlite:///{here}/a.bin"),
    named("name_sqlalchemy_absolute", "sqlite:///{project_root}/{here}/a.bin"),
    named("name_query", "{here}/a.bin?sep=;"),
    named("name_list_comma", "{here}/b.bin, {here}/a.bin", short=True),
    named("name_list_semicolon", "{here}/b.bin;{here}/a.bin"),
    named("name_list_pathsep", "{here}/b.bin:{here}/a.bin"),
    named("name_list_lines", "{here}/b.bin\n{here}/a.bin\n"),
    named("name_list_folder", "x, {here}/"),
    named("name_sql", "select * from read_parquet('{here}/a.bin') where x > 1"),
    named("name_prose", "as in 2019", runs=False),
    Edit(
        "name_home",
        'v = native(Path("~/home.bin").expanduser())\n',
        written("/home/home.bin"),
        {"/home/home.bin": "1"},
        {"f": "~/home.bin"},
        short=True,
    ),
    Edit(
        "name_two_stars_new",
        "v = [native(p) for p in sorted(HERE.parent.joinpath('name_two_stars_new')"
        ".glob('**/*.dat'))]\n".replace(".glob", ".glob"),
        written("x/y/b.dat"),
        {"a.dat": "1"},
        {"f": "{here}/**/*.dat"},
    ),
    Edit(
        "name_folder",
        'v = native(HERE / "x/a.bin")\n',
        written("x/a.bin"),
        {"x/a.bin": "1"},
        {"f": "{here}/x"},
    ),
    Edit(
        "name_folder_slash",
        'v = native(ROOT / "bulk_1/a.bin")\n',
        written("/bulk_1/a.bin"),
        {"/bulk_1/a.bin": "1"},
        {"f": "bulk_1/"},
    ),
    Edit(
        "name_folder_key",
        'v = native(ROOT / "bulk_2/a.bin")\n',
        written("/bulk_2/a.bin"),
        {"/bulk_2/a.bin": "1"},
        {"data_dir": "bulk_2"},
    ),
    Edit(
        "name_word",
        "v = 1\n",
        written("/figures/a.txt"),
        {"/figures/a.txt": "1"},
        {"kind": "figures"},
        runs=False,
        short=True,
    ),
    Edit(
        "name_word_list",
        "v = 1\n",
        written("/docs/a.txt"),
        {"/docs/a.txt": "1"},
        {"kinds": ["docs", "x"]},
        runs=False,
    ),
    Edit("name_word_new", "v = 1\n", written("/tables/a.txt"), {}, {"kind": "tables"}, runs=False),
    Edit(
        "name_word_read",
        'v = (ROOT / config["d"] / "a.txt").read_text()\n',
        written("/data/a.txt"),
        {"/data/a.txt": "1"},
        {"d": "data"},
        short=True,
    ),
    Edit(
        "name_word_listed",
        'v = [native(p) for p in sorted((ROOT / config["d"]).iterdir())]\n',
        written("/bulk/a.txt"),
        {"/bulk/a.txt": "1"},
        {"d": "bulk"},
    ),
    Edit(
        "name_word_file",
        'v = native(ROOT / "PARAMS")\n',
        written("/PARAMS"),
        {"/PARAMS": "1"},
        {"f": "PARAMS"},
    ),
    # --- databases ---
    Edit(
        "sqlite_path",
        f'import sqlite3\nv = sqlite3.connect(HERE / "d.db"){SELECT}',
        sql("d.db", "update t set x=2"),
        {"d.db": DB},
    ),
    Edit(
        "sqlite_uri",
        f'import sqlite3\nv = sqlite3.connect(f"file:{{HERE}}/d.db?mode=ro", uri=True){SELECT}',
        sql("d.db", "update t set x=2"),
        {"d.db": DB},
        short=True,
    ),
    Edit(
        "sqlite_uri_slashes",
        f'import sqlite3\nv = sqlite3.connect(f"file://{{HERE}}/d.db", uri=True){SELECT}',
        sql("d.db", "update t set x=2"),
        {"d.db": DB},
    ),
    Edit(
        "sqlite_uri_as",
        f'import sqlite3\nv = sqlite3.connect((HERE / "d 1.db").as_uri() + "?immutable=1", uri=True){SELECT}',
        sql("d 1.db", "update t set x=2"),
        {"d 1.db": DB},
    ),
    Edit(
        "sqlite_uri_relative",
        'import sqlite3\nos.chdir(HERE)\nc = sqlite3.connect("file:d.db?mode=rw", uri=True)\n'
        f'v = c{SELECT}os.chdir(ROOT / "runs/sqlite_uri_relative/default")\n',
        sql("d.db", "update t set x=2"),
        {"d.db": DB},
    ),
    # --- programs ---
    arguments("run_list", 'v = subprocess.check_output(["cat", str(HERE / "a.bin")])\n', short=True),
    arguments("run_path_object", 'v = subprocess.check_output(["cat", HERE / "a.bin"])\n'),
    arguments(
        "run_shell", 'v = subprocess.check_output(f"cat {HERE}/a.bin | tr 1 1", shell=True)\n', short=True
    ),
    arguments("run_shell_input", 'v = subprocess.check_output(f"cat < {HERE}/a.bin", shell=True)\n'),
    arguments("run_shell_glob", 'v = subprocess.check_output(f"cat {HERE}/*.bin", shell=True)\n'),
    arguments("run_cwd", 'v = subprocess.check_output(["cat", "a.bin"], cwd=HERE)\n'),
    arguments("run_option", 'v = subprocess.check_output(["dd", f"if={HERE}/a.bin", "status=none"])\n'),
    arguments("run_system", 'v = os.system(f"cat {HERE}/a.bin > out.bin")\n'),
    arguments("run_popen", 'v = os.popen(f"cat {HERE}/a.bin").read()\n'),
    arguments(
        "run_posix_spawn",
        'pid = os.posix_spawn("/bin/cat", ["cat", str(HERE / "a.bin")], os.environ)\n'
        "os.waitpid(pid, 0)\nv = 1\n",
    ),
    arguments(
        "run_exec",
        'pid = os.fork()\nif not pid:\n    os.execv("/bin/cat", ["cat", str(HERE / "a.bin")])\n'
        "os.waitpid(pid, 0)\nv = 1\n",
    ),
    arguments("run_spawnv", 'v = os.spawnv(os.P_WAIT, "/bin/cat", ["cat", str(HERE / "a.bin")])\n'),
    arguments(
        "run_async",
        "import asyncio\np = await asyncio.create_subprocess_exec('cat', str(HERE / 'a.bin'), stdout=-1)\n"
        "v = await p.communicate()\n",
    ),
    Edit(
        "run_script",
        'import subprocess\nv = subprocess.check_output(["sh", str(HERE / "model.sh")])\n',
        written("model.sh", "echo 2\n"),
        {"model.sh": "echo 1\n"},
        short=True,
    ),
    Edit(
        "run_program",
        'import subprocess\n(HERE / "model.sh").chmod(0o755)\n'
        'v = subprocess.check_output([str(HERE / "model.sh")])\n',
        written("model.sh", "#!/bin/sh\necho 2\n"),
        {"model.sh": "#!/bin/sh\necho 1\n"},
    ),
    Edit(
        "run_python",
        'import subprocess\nv = subprocess.check_output([sys.executable, str(HERE / "m.py")])\n',
        written("m.py", "print(2)\n"),
        {"m.py": "print(1)\n"},
    ),
    Edit(
        "run_python_reads",
        'import subprocess\nv = subprocess.check_output([sys.executable, str(HERE / "m.py")])\n',
        written("a.txt"),
        {"m.py": 'print(open(__file__[:-4] + "a.txt").read())\n', **ONE},
        short=True,
    ),
    Edit(
        "run_python_imports",
        'import subprocess\nv = subprocess.check_output([sys.executable, str(HERE / "m.py")])\n',
        written("helper_of_m.py", "x = 2\n"),
        {"m.py": "import helper_of_m\nprint(helper_of_m.x)\n", "helper_of_m.py": "x = 1\n"},
    ),
    Edit(
        "run_output",
        'import subprocess\nsubprocess.run(f"echo 1 > {HERE}/made.txt", shell=True)\nv = 1\n',
        nothing,
        {"made.txt": "0"},
        runs=False,
        short=True,
    ),
    Edit(
        "run_output_argument",
        'import subprocess\nsubprocess.run(["cp", __file__ if False else "/etc/hostname", '
        'str(HERE / "made.txt")])\nv = 1\n',
        nothing,
        {"made.txt": "0"},
        runs=False,
    ),
    # --- other processes of Python ---
    Edit(
        "process_fork",
        "import multiprocessing\ndef read(q):\n    q.put((HERE / 'a.txt').read_text())\n"
        'c = multiprocessing.get_context("fork")\nq = c.Queue()\np = c.Process(target=read, args=(q,))\n'
        "p.start()\nv = q.get()\np.join()\n",
        written("a.txt"),
        ONE,
    ),
    pool("process_spawn", "spawn", short=True),
    pool(
        "process_spawn_module",
        "spawn",
        replaced("work_process_spawn_module.py", "read_text()", "read_text() * 2"),
    ),
    pool("process_forkserver", "forkserver"),
    Edit(
        "process_loky",
        "sys.path.insert(0, str(HERE))\nimport work_loky\nfrom joblib import Parallel, delayed\n"
        'v = Parallel(2)(delayed(work_loky.read)(str(HERE / "a.txt")) for _ in range(2))\n',
        written("a.txt"),
        {**ONE, "work_loky.py": WORKER},
        short=True,
    ),
    Edit(
        "process_loky_lambda",
        "from joblib import Parallel, delayed\n"
        'v = Parallel(2)(delayed(lambda p: open(p).read())(str(HERE / "a.txt")) for _ in range(2))\n',
        written("a.txt"),
        ONE,
    ),
    Edit(
        "process_subinterpreter",
        'import subprocess\nv = subprocess.check_output([sys.executable, "-c", '
        "\"import sys; print(open(sys.argv[1] + chr(47) + chr(97) + '.txt').read())\", str(HERE)])\n",
        written("a.txt"),
        ONE,
    ),
    Edit(
        "process_clean_environment",
        'import subprocess\nv = subprocess.check_output([sys.executable, "-c", '
        "\"import sys; print(open(sys.argv[1] + chr(47) + chr(97) + '.txt').read())\", str(HERE)], env={})\n",
        written("a.txt"),
        ONE,
    ),
    # --- modules ---
    module(
        "module_lazy",
        "def f():\n    import mod_lazy\n    return mod_lazy.x\nv = f()\n",
        {"mod_lazy.py": "x = 1\n"},
        written("mod_lazy.py", "x = 2\n"),
        short=True,
    ),
    module(
        "module_computed",
        'import importlib\nv = importlib.import_module("mod_" + "comp").x\n',
        {"mod_comp.py": "x = 1\n"},
        written("mod_comp.py", "x = 2\n"),
    ),
    module(
        "module_star",
        "from pkg_star import *\nv = y\n",
        {"pkg_star/__init__.py": "from .inner import *\n", "pkg_star/inner.py": "y = 1\n"},
        written("pkg_star/inner.py", "y = 2\n"),
    ),
    module(
        "module_resource",
        'import importlib.resources\nv = importlib.resources.files("pkg_res").joinpath('
        '"t.sql").read_text()\n',
        {"pkg_res/__init__.py": "", "pkg_res/t.sql": "1"},
        written("pkg_res/t.sql"),
    ),
    module(
        "module_get_data",
        'import pkgutil\nv = pkgutil.get_data("pkg_data", "t.sql")\n',
        {"pkg_data/__init__.py": "", "pkg_data/t.sql": "1"},
        written("pkg_data/t.sql"),
    ),
    module(
        "module_comment",
        "import mod_comment\nv = mod_comment.x\n",
        {"mod_comment.py": "x = 1\n"},
        written("mod_comment.py", "# why\nx = 1\n"),
        runs=False,
    ),
    module(
        "module_missed",
        "try:\n    import mod_missed\n    v = mod_missed.x\nexcept ImportError:\n    v = 0\n",
        {},
        written("mod_missed.py", "x = 2\n"),
    ),
    Edit(
        "module_exec", 'exec((HERE / "m.py").read_text())\n', written("m.py", "v = 2\n"), {"m.py": "v = 1\n"}
    ),
    Edit(
        "module_runpy",
        'import runpy\nv = [runpy.run_path(str(p))["x"] for p in sorted(HERE.glob("*.py"))]\n',
        written("n.py", "x = 2\n"),
        {"m.py": "x = 1\n"},
    ),
    Edit(
        "module_src_layout",
        "import own_src_package\nv = own_src_package.x\n",
        written("/src/own_src_package/__init__.py", "x = 2\n"),
        {"/src/own_src_package/__init__.py": "x = 1\n"},
        short=True,
    ),
    Edit(
        "module_hides_installed",
        "import zict\nv = zict.__file__\n",
        written("/zict.py", "x = 1\n"),
        short=True,
    ),
    Edit(
        "module_hides_installed_package",
        "import defusedxml\nv = defusedxml.__file__\n",
        written("/defusedxml/__init__.py", ""),
    ),
    Edit(
        "module_hides_from_flows",
        "from bleach import clean\nv = clean('x')\n",
        written("/flows/bleach.py", "clean = str\n"),
    ),
    Edit("module_hides_standard", "import colorsys\nv = colorsys.__file__\n", written("/colorsys.py", "")),
    Edit(
        "module_extension",
        "import importlib.machinery as m, importlib.util as u\n"
        'p = str(next(HERE.glob("*.so")))\ns = u.spec_from_file_location("_bisect", p, loader='
        'm.ExtensionFileLoader("_bisect", p))\nv = u.module_from_spec(s)\nv = 1\n',
        appended("_bisect.so"),
        {"_bisect.so": COMPILED},
    ),
    Edit(
        "library_ctypes",
        'import ctypes\nctypes.CDLL(HERE / "libx.so")\nv = 1\n',
        appended("libx.so"),
        {"libx.so": COMPILED},
        short=True,
    ),
    Edit(
        "library_ctypes_text",
        'import ctypes\nctypes.cdll.LoadLibrary(str(HERE / "libx.so"))\nv = 1\n',
        appended("libx.so"),
        {"libx.so": COMPILED},
    ),
    Edit(
        "library_numpy",
        'import numpy.ctypeslib\nnumpy.ctypeslib.load_library("libx", str(HERE))\nv = 1\n',
        appended("libx.so"),
        {"libx.so": COMPILED},
    ),
    Edit(
        "library_mapped",
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.dlopen.restype = ctypes.c_void_p\n"
        'v = bool(libc.dlopen(os.fsencode(HERE / "libx.so"), 2))\n',
        appended("libx.so"),
        {"libx.so": COMPILED},
    ),
    # --- code of the flow ---
    Edit(
        "code_comment", "v = 1\n", replaced("/flows/code_comment.py", "v = 1\n", "v = 1  # one\n"), runs=False
    ),
    Edit("code_value", "v = 1\n", replaced("/flows/code_value.py", "v = 1\n", "v = 2\n")),
    Edit(
        "tag_active_ipynb",
        'v = 1\n# %% tags=["active-ipynb"]\n# v = 2\n# %%\n',
        replaced("/flows/tag_active_ipynb.py", "# v = 2", "# v = 3"),
        short=True,
    ),
    Edit(
        "tag_active_ipynb_py",
        'v = 1\n# %% tags=["active-ipynb-py"]\nv = 2\n# %%\n',
        replaced("/flows/tag_active_ipynb_py.py", "v = 2", "v = 3"),
    ),
    Edit(
        "tag_active_key",
        'v = 1\n# %% active="ipynb"\n# v = 2\n# %%\n',
        replaced("/flows/tag_active_key.py", "# v = 2", "# v = 3"),
    ),
    Edit(
        "tag_active_py_added",
        "v = 1\n# %%\nv = 2\n# %%\n",
        replaced("/flows/tag_active_py_added.py", "# %%\nv = 2", '# %% tags=["active-py"]\nv = 2'),
    ),
    Edit(
        "tag_active_spaces",
        'v = 1\n# %% tags=["active-ipynb"]\n# v = 2\n# %%\n',
        replaced("/flows/tag_active_spaces.py", "# v = 2", "# v  =  2"),
        runs=False,
    ),
    Edit(
        "tag_other",
        "v = 1\n",
        replaced("/flows/tag_other.py", "# %%\nPath", '# %% tags=["eye"]\nPath'),
        runs=False,
    ),
    # --- reached by a link of the project ---
    Edit(
        "linked_resolved",
        'v = ((HERE / "linked").resolve() / "a.txt").read_text()\n',
        lambda here, root: put(root.parent / "outside/a.txt", "2"),
        short=True,
    ),
    Edit(
        "linked_realpath_file",
        'v = open(os.path.realpath(HERE / "file.txt")).read()\n',
        lambda here, root: put(root.parent / "outside/b.txt", "2"),
    ),
    Edit(
        "linked_by_name",
        'v = (HERE / "linked/c.txt").read_text()\n',
        lambda here, root: put(root.parent / "outside/c.txt", "2"),
    ),
    Edit(
        "outside_unnamed",
        'v = (ROOT.parent / "elsewhere/d.txt").read_text()\n',
        lambda here, root: put(root.parent / "elsewhere/d.txt", "2"),
        runs=False,
    ),
]


def same_time(path: Path) -> None:
    before = path.stat()
    path.write_text("2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def zipped(here: Path, text: str) -> None:
    import gzip

    (here / "a.gz").write_bytes(gzip.compress(text.encode()))


def outside_of(root: Path) -> None:
    """Folders beside the project, and links of the project that lead there."""
    for name in ("outside/a.txt", "outside/b.txt", "outside/c.txt", "elsewhere/d.txt"):
        put(root.parent / name, "1")
    for id in ("linked_resolved", "linked_by_name"):
        if (root / "inputs" / id).is_dir():
            (root / "inputs" / id / "linked").symlink_to(root.parent / "outside")
    if (root / "inputs/linked_realpath_file").is_dir():
        (root / "inputs/linked_realpath_file/file.txt").symlink_to(root.parent / "outside/b.txt")


def session(project: TinyProject, *args: str) -> tuple[set[str], str]:
    """Run a session; return the flows that ran, and what it printed."""
    root = project.root
    done = project.pytest(
        "-q",
        "-p",
        "no:cacheprovider",
        *args,
        timeout=560,
        env={"HOME": str(root / "home"), "EDITS_PROJECT": str(root), "PYTHONPATH": str(root / "src")},
    )
    twin = done.report()["instances"]
    bad = [
        f"{entry['id']}: {entry['message']}"
        for entry in twin
        if entry["status"] not in ("success", "unchanged")
    ]
    assert [] == bad, done.out
    return {entry["flow"] for entry in twin if entry["status"] != "unchanged"}, done.out


def check(project: TinyProject, edits: Sequence[Edit]) -> None:
    project.settings("html = false\nreport = true")
    for edit in edits:
        edit.make(project)
    outside_of(project.root)
    everything = {edit.id for edit in edits}
    assert everything == session(project)[0]
    in_vain = [sorted(session(project, "--ductaflow-changed")[0]) for _ in range(2)]
    for edit in edits:
        edit.act(project.root / "inputs" / edit.id, project.root)
    ran, _ = session(project, "--ductaflow-changed")
    must = {edit.id for edit in edits if edit.runs}
    found = {"missed": sorted(must - ran), "false": sorted(ran - must), "without an edit": in_vain}
    assert {"missed": [], "false": [], "without an edit": [[], []]} == found


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="flows of these tests call libc and programs")


def test_edits_run_what_they_concern_and_nothing_else(project: TinyProject) -> None:
    """The short selection: nothing is missed, and nothing runs in vain."""
    check(project, [edit for edit in EDITS if edit.short])


@pytest.mark.campaign
def test_all_edits(project: TinyProject) -> None:
    """The whole table: nothing is missed, and nothing runs in vain."""
    check(project, EDITS)
