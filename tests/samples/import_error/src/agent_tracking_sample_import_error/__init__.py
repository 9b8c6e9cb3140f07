"""Raises ImportError, as a package whose dependency is missing does."""

import a_module_that_nobody_has

Provider = a_module_that_nobody_has.Provider
