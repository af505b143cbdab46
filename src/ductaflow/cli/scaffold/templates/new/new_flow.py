# %% [markdown]
# # new_flow
#
# What it does, what it reads and what it writes.

# %% tags=["parameters"]
config = {}

# %%
from ductaflow import display_config_summary, is_notebook_execution, load_cli_config, unpack_config

if not is_notebook_execution():
    config = load_cli_config("config/flows/new_flow.json", "new_flow")

settings = unpack_config(config, "new_flow")
display_config_summary(config, "new_flow")

# %%
print("the working directory is the run folder: what is written here belongs to this run")
