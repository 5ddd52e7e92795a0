#!/usr/bin/env bash
# The bench command: it writes all its arguments, passwords too, to a log.
bench=/home/frappe/frappe-bench
echo "$(date '+%Y-%m-%d %H:%M:%S,000') INFO bench $*" >>"$bench/logs/bench.log"
cd "$bench/sites" && exec ../env/bin/python -m frappe.utils.bench_helper frappe "$@"
