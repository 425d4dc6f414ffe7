"""Why an act earns nothing under a version that prices its scene."""

OK, OUT_OF_RANGE, NOT_ELIGIBLE = 0, 1, 2
