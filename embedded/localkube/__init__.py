"""A Kubernetes API on loopback that runs each pod's container as a local process.

Start it with ``python -m localkube --state-dir DIR --image NAME=BIN_DIR`` and point any
Kubernetes client at the ``kubeconfig`` file it writes. It is for one user on one machine:
it isolates nothing, and a pod can do whatever its user can do. The connection is plain HTTP
with a token, which the Python clients and Airflow send; kubectl sends no token without TLS.

Covered: pods (create, get, list, watch, patch of labels and annotations, log, delete),
secrets, events, namespaces, and service accounts and quotas as far as pods are checked against
them, with the names, states, labels and errors of the real API, as requests to both have shown
for Kubernetes 1.34. A pod has one container and ``restartPolicy: Never``; anything a plain
process cannot honour and a caller would miss is refused with 422. Scheduling hints, resources,
security contexts, probes and service accounts are accepted and have no effect.

Unlike a cluster: there is no sidecar, no dry run and no patch of a list (JSON patch); a container
starts within milliseconds; and its first process ends when it is asked to (SIGTERM), as with an
init such as tini in the image. On a cluster, the first process of a container that handles no
SIGTERM, such as a plain ``sleep`` or ``python``, is killed when its grace period is over.

Images: an image is a folder of executables, put first on ``PATH``. A pod of any other image
stays ``Pending`` with ``ErrImagePull``, as on a cluster.

Environment: a process sees ``PATH``, ``HOME``, ``LANG`` and ``HOSTNAME``, then the values given
with ``--env``, then what its pod asks for. Nothing else of the server's environment reaches it.

Volumes: a ``persistentVolumeClaim`` is the folder ``{state_dir}/volumes/{namespace}/{claim}``,
made when first used, and an ``emptyDir`` a folder that goes with its pod. A process has no mount
namespace, so a mount is a replacement of text: a command, an argument, a literal environment
value or the working directory that equals a ``mountPath``, or begins with it and a slash, gets
the folder's path in its place. Paths in the middle of a text (``--dir=/data``) and values from
secrets stay as they are.

State: objects live in memory and end with the server, and so do the pods, even when the server
is killed. On disk are the volumes, and the logs and working folders of pods not yet deleted.

The annotation ``localkube/fail-with: OOMKilled`` (or ``Evicted``), at creation or by a patch,
ends a running pod as a cluster would for that reason.
"""
