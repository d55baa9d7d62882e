"""A person's own SQL over one workspace's rows, in a process that has nothing else.

`process` is the service's side: it starts the process, hands it the rows, waits, and kills it when its time is up.
`worker` is the process: limited by the operating system, with a DuckDB in memory (`instance`) that reaches no file, no
network and no other workspace's row. What DuckDB cannot stop, a function that computes for minutes or takes gigabytes
outside its memory limit, ends with the process.
"""
