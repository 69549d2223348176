#!/usr/bin/env bash
# What the daemons of a test run did with their frames, in one line; fails where one is unexplained.
#
# Usage: lab/frames.sh FILE, where FILE is what $UVS_LAB_FRAMES named during the run.
set -euo pipefail

[ -s "$1" ] || { echo "lab: no daemon ran"; exit 0; }
awk '{
    n++; for (i = 1; i <= 12; i++) sum[i] += $i
} END {
    unaccounted = sum[1] - sum[2] - sum[3] - sum[4] - sum[5] - sum[6] - sum[7] - sum[12]
    unsent = sum[8] - sum[9] - sum[10] - sum[11]
    printf "lab: %d daemons received %d frames = %d sent + %d answered + %d held + %d passed + %d local + %d in the kernel + %d dropped; unaccounted %d\n", \
        n, sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[12], sum[7], unaccounted
    printf "lab: %d frames to send = %d left + %d waiting + %d dropped; unsent %d\n", sum[8], sum[9], sum[10], sum[11], unsent
    exit unaccounted != 0 || unsent != 0
}' "$1"
