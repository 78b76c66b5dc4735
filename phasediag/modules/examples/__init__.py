"""Networks to start from, for studies of kind "module": `factory = "phasediag.modules.examples.mlp:make"`."""
