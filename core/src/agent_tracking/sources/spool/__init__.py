"""The spool: records wait on disk, so that neither a kill nor an outage of days costs any.

Each process writes segments of its own (:mod:`.writer`, :mod:`.lines`); for each provider one process holds a
lock and delivers what all have written (:mod:`.source`, :mod:`.reading`, :mod:`.leader`), and notes how far
it is (:mod:`.places`, :mod:`.position`). A record that kills the process is found out (:mod:`.trial`) and set
aside (:mod:`.dead`), and the folder is kept within its bounds (:mod:`.housekeeping`). :mod:`.spool` is one
process's side of all that; :mod:`.browse` is for who only looks.
"""
