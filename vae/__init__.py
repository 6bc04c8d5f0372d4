import world_models.account  # noqa: F401 before Keras, cma and numba are imported
