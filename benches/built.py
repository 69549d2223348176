"""The engine's bench of a tree, built: what the programs beside this file run."""
import json
import os
import subprocess
import sys

BUILD = "cargo bench -p uvs-benches --bench engine --no-run --message-format=json".split()


def engine(tree, **settings):
    """Where the program is; `settings` are its build's own environment."""
    built = subprocess.run(BUILD, cwd=tree, env={**os.environ, **settings}, stdout=subprocess.PIPE)
    if built.returncode != 0:
        sys.exit(f"{' '.join(BUILD)} failed in {tree}")
    made = [json.loads(line) for line in built.stdout.splitlines()]
    return next(m["executable"] for m in made if m.get("executable") and m["target"]["name"] == "engine")
