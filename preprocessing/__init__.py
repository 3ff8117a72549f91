"""From raw scans to maps on the template grid."""

import os

# ITK, inside ANTs, reads this once, at its first filter, whoever calls it. With more threads the sums of a
# registration, and with them its bytes, differ from run to run; many subjects at once use cores better than threads.
os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
