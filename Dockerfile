# The worker, on a base image of your choice:
#
#   docker build -t worker .                                    a small image, for the built-in workload
#   docker build -t worker --build-arg BASE=me/cuda-tools .     on your GPU image
#
# Everything that the worker needs is in /opt/holdfast, including its own Python and the shared libraries that this Python
# links. The base image may therefore have another Python or none; neither affects the other. The base must use glibc, run
# on the same processor architecture, and have a glibc at least as new as the Python needs (2.36 for bookworm). The build
# tests this and stops if it does not hold. For an older base, pass a Python image of an older Debian:
# --build-arg PYTHON_IMAGE=…
#
# To add your workloads, write an image FROM this one that copies workloads.toml (and holdfast.toml, if you have one) to
# /etc/holdfast/, or mount the files there. The root file system may be read-only: the worker writes only to /tmp/holdfast.
# Give a stopping container STOP_GRACE plus 5 s to save its state (docker stop --time 40).

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends patchelf tini \
 && rm -rf /var/lib/apt/lists/*

# Make a Python that works from any base: copy the interpreter and its library without the parts that no worker uses, add
# every shared library it links except glibc, and let them find each other by relative RPATHs. An RPATH is searched before
# the base's LD_LIBRARY_PATH. docs/adr/0022 says why the image does not use a prebuilt relocatable Python.
RUN set -eu; \
    python=$(python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
    mkdir -p /opt/holdfast/bin /opt/holdfast/lib; \
    cp "/usr/local/bin/$python" /usr/bin/tini-static /opt/holdfast/bin/; \
    ln -s "$python" /opt/holdfast/bin/python; \
    cp -r "/usr/local/lib/$python" /opt/holdfast/lib/; \
    cd "/opt/holdfast/lib/$python"; \
    rm -rf site-packages/* config-* ensurepip idlelib lib2to3 tkinter turtledemo lib-dynload/_tkinter.* lib-dynload/*test*; \
    find . -depth -type d '(' -name test -o -name tests ')' -exec rm -r '{}' +; \
    ldd "../../bin/$python" lib-dynload/*.so | awk '$2 == "=>" && $3 ~ "^/" { print $3 }' | sort -u \
      | grep -Ev '/(libc|libm|libdl|librt|libutil|libpthread)\.so' | xargs cp -Lt ..; \
    patchelf --force-rpath --set-rpath '$ORIGIN/../lib' "../../bin/$python"; \
    patchelf --force-rpath --set-rpath '$ORIGIN/../..' lib-dynload/*.so; \
    patchelf --force-rpath --set-rpath '$ORIGIN' ../*.so*

# Install the dependencies before Holdfast itself, so that this layer is rebuilt only when a lock file changes. pip checks
# every file against the hashes in the lock. What builds the wheel goes into this stage's Python, which the image leaves
# behind.
WORKDIR /src
COPY requirements/ requirements/
RUN pip --python /opt/holdfast/bin/python install --root-user-action=ignore --no-cache-dir --no-compile \
      --require-hashes --no-deps -r requirements/worker.txt \
 && pip install --root-user-action=ignore --no-cache-dir --require-hashes --no-deps -r requirements/build.txt

# The command runs with -I, so that the base's PYTHONPATH and similar variables do not affect it; the workloads that it
# starts do see them. Bytecode is compiled here and never checked against its source again, because nothing may write to
# /opt/holdfast at run time.
COPY . ./
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /tmp/wheel . \
 && pip --python /opt/holdfast/bin/python install --root-user-action=ignore --no-cache-dir --no-compile --no-deps /tmp/wheel/*.whl \
 && sed -i '1s|^#!.*|#!/opt/holdfast/bin/python -I|' /opt/holdfast/bin/holdfast \
 && /opt/holdfast/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/holdfast/lib

FROM ${BASE}
USER root
RUN groupadd --gid 10001 holdfast \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp/holdfast --no-create-home --shell /usr/sbin/nologin holdfast \
 && mkdir /etc/holdfast
COPY --from=build /opt/holdfast /opt/holdfast
# If this base cannot run the worker, fail here and not on a node.
RUN /opt/holdfast/bin/python -I -c 'import boto3, bz2, ctypes, lzma, sqlite3, ssl, zlib' \
 && /opt/holdfast/bin/holdfast --version \
 && ln -s /opt/holdfast/bin/holdfast /usr/local/bin/holdfast

ENV HOLDFAST_HOME=/tmp/holdfast \
    WORK_DIR=/tmp/holdfast/work
# workloads.toml is looked up in the working directory, and holdfast.toml in /etc/holdfast.
WORKDIR /etc/holdfast
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/holdfast/bin/python", "-I", "-m", "holdfast._health"]
# tini runs as process 1. It forwards signals to the worker, even to one that is still starting, and reaps the processes
# that workloads leave behind. A program instead of a command, such as /bin/bash, is run in the image as it is.
ENTRYPOINT ["/opt/holdfast/bin/tini-static", "--", "/opt/holdfast/bin/python", "-I", "-m", "holdfast._entrypoint"]
CMD ["worker"]
