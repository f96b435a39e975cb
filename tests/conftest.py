"""How thorough properties are: `HYPOTHESIS_EXAMPLES=500 make test` for more than the everyday share."""

import os

from hypothesis import settings

settings.register_profile("suite", max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "30")))
settings.load_profile("suite")
