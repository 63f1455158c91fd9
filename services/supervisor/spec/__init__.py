"""OCI bundles: config.json read strictly, the default one, and what of it is supported."""
