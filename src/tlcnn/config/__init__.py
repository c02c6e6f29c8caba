"""The schema of a run, and how YAML files and command lines become one."""
