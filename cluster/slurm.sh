#!/usr/bin/env bash
# One sweep on the nodes of a Slurm job; submitting it again resumes.
#
#     sbatch --nodes=4 cluster/slurm.sh sweeps/two_layer_synthetic.toml /shared/two_layer_synthetic
#
# Both paths are on a file system that all nodes see, and the environment in which phasediag is installed is active when the job is
# submitted. Nodes are taken whole: at the end, Ray stops everything of Ray on them. Needs Ray 2.49 or later (ray symmetric-run).
#SBATCH --job-name=phasediag
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120

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

nodes=${SLURM_JOB_NUM_NODES:?run it with sbatch}
hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="${hosts%%$'\n'*}:${RAY_PORT:-6379}"  # of the first; `| head` would end scontrol, and the script, by SIGPIPE
echo "Ray at $address, $nodes nodes"

# Others who reach these nodes cannot run anything on this cluster. srun hands the environment on.
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN

# In the background, so that the signal before the time limit is passed on at once: what is finished is kept.
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 \
    ray symmetric-run --address "$address" --min-nodes "$nodes" -- \
    env RAY_ADDRESS="$address" python -m phasediag run "$spec" --out "$out" &
step=$!
trap 'kill -TERM "$step"; wait "$step"' TERM
wait "$step" || true

# The exit code of srun is that of the worst of its tasks; how the sweep ended is in the files.
phasediag status "$out" --wait
