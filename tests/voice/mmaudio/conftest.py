from mmaudio_debug import folder, models, video  # noqa: F401 - fixtures
