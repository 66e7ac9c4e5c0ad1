"""From command line and YAML to one plain config: the only room that knows Hydra."""
