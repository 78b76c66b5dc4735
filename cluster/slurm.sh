#!/usr/bin/env bash
# One sweep on the nodes of a Slurm job; submitting it again resumes.
#
#     sbatch --nodes=4 cluster/slurm.sh sweeps/two_layer_synthetic.toml /shared/two_layer_synthetic
#
# Both paths are on a file system that all nodes see, and the environment in which phasediag is installed is active when the job is
# submitted. Nodes are taken whole: at the end, Ray stops everything of Ray on them. Needs Ray 2.49 or later (ray symmetric-run).
# What is finished is kept when the time is over; two minutes before, Slurm asks the processes to end.
#SBATCH --job-name=phasediag
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=TERM@120

set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: sbatch --nodes=N cluster/slurm.sh SPEC.toml OUT" >&2
    exit 2
fi
spec=$1
out=$2
if [[ ! -f $spec ]]; then
    echo "$spec: there is no such file; allowed: the spec of a study, on a file system that all nodes see" >&2
    exit 2
fi
phasediag plan "$spec"  # a spec that is refused does not get as far as the nodes

nodes=${SLURM_JOB_NUM_NODES:?run it with sbatch}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="${hosts%%$'\n'*}:${RAY_PORT:-6379}"  # of the first; `| head` would end scontrol, and the script, by SIGPIPE
echo "Ray at $address, $nodes nodes"

# Others who reach these nodes cannot run anything on this cluster. srun hands the environment on.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
# Nodes that import from a busy shared file system take longer than the 30 seconds that Ray would give them.
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT="${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-600}"

# How the sweep ended: srun's own code is that of the worst of its tasks. This script runs on the first node, and so does the sweep.
ended=$(mktemp)
trap 'rm -f "$ended"' EXIT
code=0
# shellcheck disable=SC2016  # for the other shell
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 \
    ray symmetric-run --address "$address" --min-nodes "$nodes" -- \
    bash -c '"$@"; echo $? >"$0"' "$ended" \
    env RAY_ADDRESS="$address" python -m phasediag run "$spec" --out "$out" || code=$?
if [[ -s $ended ]]; then
    exit "$(<"$ended")"
fi
echo "the sweep did not begin, or was ended with its nodes; what is finished is kept" >&2
exit "$((code > 0 ? code : 1))"
