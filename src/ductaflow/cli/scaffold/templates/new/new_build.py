# %% [markdown]
# # new_build
#
# Runs flows in order, each in a folder of its own below this build's run folder.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import is_notebook_execution, load_cli_config, run_notebook, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/builds/new_build.json", "new_build")

settings = unpack_config(config, "new_build")

# %%
for flow, flow_config in settings["flows"].items():
    run_notebook(f"flows/{flow}.py", config=flow_config, execution_dir=f"runs/{flow}")
