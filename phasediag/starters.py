"""The specs that `phasediag init` writes, one of each kind of study."""

PHASE_DIAGRAM = """\
# A study for phasediag: which networks to train, on what data. Run it with
#
#     phasediag run THIS_FILE --out OUT
#
# Unknown keys are errors; keys that are commented out show their defaults.

name = "starter"                  # letters, digits, - and _
kind = "phase-diagram"

[network]
depth = 2                         # layers of weights: two for one hidden layer, three for two of equal width
activation = "relu"

[data]
kind = "points"                   # points | digits | mnist | file
x = [[-1.0], [-0.35], [0.3], [1.0]]                 # n rows of d numbers
y = [0.6, -0.4, 0.5, -0.2]                          # n numbers

[grid]                            # every width and every seed at every point (gamma, gamma_prime)
width = [100, 300, 1000]          # the slope over these widths decides the regime
gamma = { start = 0.5, stop = 2.0, num = 7 }        # both ends included; a list works as well
gamma_prime = { start = -0.5, stop = 1.0, num = 7 }
seeds = 2                         # 0 and 1; a list works as well
# points = [[1.1, 0.05]]          # further pairs beside the product of gamma and gamma_prime
#                                 # three layers have a key gamma_1 as well, 0 unless given

# [refine]                        # place further points by themselves, where they narrow the critical lines most
# target = 0.05                   # (required) half-width, in gamma, of the 95 % band of every critical line
# max_jobs = 2000                 # most jobs to add to those of the grid
# rounds = 8                      # most steps one after the other, in each row of the map

# [train]
# method = "gradient-flow"        # or "gd", "adam", with a fixed step: these need learning_rate = 0.1, for example
# accuracy = 0.01                 # of gradient-flow: relative error allowed on the relative change of the weights
# loss_tolerance = 1e-6           # converged: the loss has fallen to this fraction of the loss of f = 0
# max_evaluations = 20000
# dtype = "float32"               # or "float64"

# [resources]                     # of one task
# device = "auto"                 # auto | cpu | cuda
# cpus_per_task = 1
# gpus_per_task = 0.0             # 0.25: four tasks share a GPU

# [samples]                       # networks kept whole, for the figures of functions and features
# points = [[0.5, 0.0], [1.0, 0.0], [1.75, 0.0]]
# width = 1000
# seed = 0
"""

CONDENSATION = """\
# A condensation study for phasediag: on how many lines do the input weights of small networks gather early in training? Run it with
#
#     phasediag run THIS_FILE --out OUT
#
# Unknown keys are errors; keys that are commented out show their defaults.

name = "starter"                  # letters, digits, - and _
kind = "condensation"

[network]
hidden = [50]                     # one number of neurons for each hidden layer
# residual = false                # skip connections between hidden layers of equal width

[data]
kind = "function"                 # function | points | digits | mnist | file
target = "sum_sin"                # y = sum_k amplitude sin(frequency x_k + phase); or "sin_mix": sin(3x) + sin(6x)/2
amplitude = 3.5
frequency = 5.0
phase = 1.0
dimension = 5                     # a list studies several
low = -4.0
high = 2.0
samples = 80
# spacing = "uniform-random"      # a new sample for every seed; or "even", of one input

[grid]                            # every activation at every std, with every seed
activation = ["tanh", "x_tanh"]   # relu tanh sigmoid softplus x_tanh x2_tanh; an entry may be a list, one for each hidden layer
std = [0.005]                     # of all initial weights
seeds = 20                        # 0 to 19; a list works as well

[train]
method = "adam"                   # adam | gd | gradient-flow | normalized-gd (each neuron's step normalised)
epochs = 100                      # of gradient-flow: an epoch is the time learning_rate
learning_rate = 1e-3              # or a table: { tanh = 1e-3, default = 8e-4 }
snapshots = [10, 20, 50]          # 0 and the last epoch are looked at anyway
# dtype = "float64"               # or "float32"
# accuracy = 1e-4                 # of gradient-flow: relative error allowed in a step
# max_evaluations = 20000         # of gradient-flow

# [resources]                     # of one task
# device = "auto"                 # auto | cpu | cuda
# cpus_per_task = 1
# gpus_per_task = 0.0             # 0.25: four tasks share a GPU

# [samples]                       # networks kept whole at every snapshot, for the figures
# seeds = [0]
"""

STARTERS = {"phase-diagram": PHASE_DIAGRAM, "condensation": CONDENSATION}
"""By the kind of the study."""
