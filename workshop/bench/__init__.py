"""What things cost, as ratios from one run. Nothing here is needed to use the package.

    python -m workshop.bench --official path/to/ovam --daam path/to/daam     # `make bench OFFICIAL=… DAAM=…`
    python -m workshop.bench.token_cost --official path/to/ovam              # how fast a token is learned

`timing` takes turns and prints; `shapes` has the models to measure on, `official` the authors' own code;
`recording`, `asking`, `peaks` and `token_cost` each measure one thing. Seconds depend on the machine; ratios
hardly do, provided that the machine does nothing else.
"""
