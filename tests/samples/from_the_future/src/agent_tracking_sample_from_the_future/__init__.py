"""Must not even be imported: its metadata says that it cannot work."""

raise AssertionError("imported although its metadata says that it is incompatible")
