"""Benchmarks: every figure beside a ceiling that was measured in the same run.

    make bench                                          # all, about fifteen minutes on two cores
    make bench ARGS="check_in telemetry"                # some
    make bench ARGS="overhead --report report.json"     # read the overhead of a demo's loop

Each line on stdout is one figure: `{"name", "value", "unit", "ceiling", "ratio", "note"}`; progress goes to stderr.
`ratio` is the share of what is possible (value / ceiling for rates, floor / value for costs), so 1 is perfect and more
is better everywhere. The docstring of each module says what is measured, what its ceiling is, and why it cannot be
reached.

| bench | value | ceiling or floor | goal |
|---|---|---|---|
| check_in | check-ins/s of one API process, by proxy and by TLS | bare ASGI app by the same kind of listener | 0.5 |
| million | the same with 1,000,000 devices in memory; memory | bare ASGI app; a process with 1,000 devices | 0.5; 0.8 |
| identity | check-ins/CPU-s by certificate | the same by signature, judged by the row each time | none |
| signing | check-ins/s by signature with the director's own | the same API without it | none |
| telemetry | rows/s, one device and eight | COPY of the same rows into the same table | 0.2 |
| download | MB/s of the agent's downloader from the API, whole and resumed | copy with sha256 of the same file | 0.6 |
| agent | memory and idle CPU of one agent, and of a host with 36 | bare asyncio + httpx, as many plain GETs | none |
| update | MB/s of a 10 GB model into its slot, whole, and with ten kills; memory | copy with sha256 | 0.8 |
| rollout | ms to create, start, widen, look at, halt a rollout over a million devices | 1 s; 50 ms a look | 1 |
| trust | ms of a trust refresh and of judging a release | as many plain GETs; bare signature checks | none |
| episodes | episodes/s of the flow's `evaluate` stage | bare simulator loop in as many processes | 0.9 |
| clusters | episodes/s of shards on Slurm and on Ray, two nodes each; s a shard | local pool; bare simulator | 0.9 |
| overhead | seconds of one turn of the loop | its compute seconds | 0.9 |

Absolute figures depend on the machine and on what else runs on it. Ratios are medians of rounds in which value and
ceiling take turns, so a busy machine hits both; but a server with a database needs both cores and the bare one does
not, so on a busy machine `check_in` looks worse than it is: `check_in_cpu`, per CPU-second of the server process, does
not mind. Everything binds 127.0.0.1, keeps its files in a temporary folder and stops by itself, also at Ctrl-C and
SIGTERM; only SIGKILL leaves the embedded PostgreSQL behind.
"""
