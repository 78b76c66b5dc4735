#!/usr/bin/env bash
# One sweep on the nodes of a Slurm job; submitting it again resumes.
#
#     sbatch --nodes=4 cluster/slurm.sh sweeps/two_layer_synthetic.toml /shared/two_layer_synthetic
#
# Both paths are on a file system that all nodes see, and the environment in which phasediag is installed is active at submission.
# The job takes whole nodes: at the end, the script stops all of Ray on them. Needs Ray 2.49 or later (ray symmetric-run).
# Finished rows are kept when the time is over. Two minutes before, the sweep ends in good order, as it does after
#
#     scancel --batch --signal=TERM JOBID
#
# A plain `scancel JOBID` ends everything at once: finished rows are kept, and a sweep that goes on elsewhere may wait for a minute first.
# A node that fails costs time only, unless it is the first.
#
# A line with ## is a comment: remove one # from each that your cluster needs, and fill in the name. GPUs also need
# gpus_per_task under [resources] in the spec.
#SBATCH --job-name=phasediag
#SBATCH --exclusive
#SBATCH --ntasks-per-node=1
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --no-kill
##SBATCH --account=PROJECT
##SBATCH --partition=PARTITION
##SBATCH --gpus-per-node=4

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

# This script runs on the first node, and so does the sweep: they share a folder, for its process and its exit code (srun's own code is the
# worst of its tasks). SIGTERM is for the sweep alone: if Ray got it too, the sweep would be cut off.
shared=$(mktemp -d)
trap 'rm -rf "$shared"' EXIT
# When the sweep has ended, all nodes are done: left to themselves, the others would look for the first for a minute, and then print pages.
# shellcheck disable=SC2016  # for the other shell
on_first_node='"$@" & echo $! >"$0/process"; wait $!; code=$?; '
# shellcheck disable=SC2016
on_first_node+='echo "$code" >"$0/code" && scancel --signal=KILL "$SLURM_JOB_ID.$SLURM_STEP_ID"; exit "$code"'
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --no-kill --kill-on-bad-exit=0 --wait=0 \
    ray symmetric-run --address "$address" --min-nodes "$nodes" -- \
    bash -c "$on_first_node" "$shared" \
    env RAY_ADDRESS="$address" python -m phasediag run "$spec" --out "$out" &
srun=$!
trap 'if [[ -s $shared/process ]]; then kill "$(<"$shared/process")"; else kill "$srun"; fi || true' TERM
code=0
wait "$srun" || code=$?
while kill -0 "$srun" 2>/dev/null; do  # a signal has interrupted the wait
    code=0
    wait "$srun" || code=$?
done
ray stop --force &>/dev/null || true  # on this node it would outlive the job where Slurm does not end daemons
if [[ -s $shared/code ]]; then
    code=$(<"$shared/code")
    echo "the sweep ended with $code; Slurm's report of a killed step is expected"
    exit "$code"
fi
echo "the sweep did not begin, or ended with its nodes; finished rows are kept" >&2
exit "$((code > 0 ? code : 1))"
