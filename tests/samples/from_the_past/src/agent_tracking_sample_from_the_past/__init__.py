"""Must not even be imported: its metadata says that it is made for versions that are gone."""

raise AssertionError("imported although its metadata says that it is incompatible")
