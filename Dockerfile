# The worker, on a base image of your choice:
#
#   docker build -t worker .                                    a small image, for the built-in workload
#   docker build -t worker --build-arg BASE=me/cuda-tools .     on your GPU image
#
# /opt/holdfast holds all that the worker needs, its own Python and the libraries under it included. So the base may have
# no Python, or another one: neither sees the other. It must be glibc-based, for the same processor, and its glibc no older
# than what the Python was built for (bookworm's asks for 2.36 at most). The build tries that out, and stops if it is not so;
# for an older base, take a Python image of an older Debian: --build-arg PYTHON_IMAGE=…
#
# Your workloads: COPY workloads.toml /etc/holdfast/ in an image FROM this one, or mount it there; a holdfast.toml likewise.
# Run it with a read-only root if you like: it writes to /tmp/holdfast alone. Let it have its time to save: STOP_GRACE
# and 5 s more (docker stop --time 40).

ARG PYTHON_IMAGE=python:3.12-slim-bookworm
ARG BASE=debian:bookworm-slim

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends patchelf tini \
 && rm -rf /var/lib/apt/lists/*

# A Python that can be carried: without what no worker uses, and with the libraries that it links, glibc's own excepted.
# They find each other by their place (RPATH, so that no LD_LIBRARY_PATH of the base comes first).
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

# What Holdfast needs, before Holdfast itself: this layer is built anew only if they change.
WORKDIR /src
COPY pyproject.toml ./
RUN python3 -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' > needs.txt \
 && pip --python /opt/holdfast/bin/python install --root-user-action=ignore --no-cache-dir --no-compile -r needs.txt

# The command ignores the base's PYTHONPATH and the like (-I); the workloads that it starts do not. Bytecode is made here,
# and never checked again: at run time nobody may write there.
COPY . ./
RUN pip --python /opt/holdfast/bin/python install --root-user-action=ignore --no-cache-dir --no-compile --no-deps . \
 && sed -i '1s|^#!.*|#!/opt/holdfast/bin/python -I|' /opt/holdfast/bin/holdfast \
 && /opt/holdfast/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/holdfast/lib

FROM ${BASE}
USER root
RUN groupadd --gid 10001 holdfast \
 && useradd --uid 10001 --gid 10001 --home-dir /tmp/holdfast --no-create-home --shell /usr/sbin/nologin holdfast \
 && mkdir /etc/holdfast
COPY --from=build /opt/holdfast /opt/holdfast
# Fails here, not on a node, if this base cannot run it.
RUN /opt/holdfast/bin/python -I -c 'import boto3, bz2, ctypes, lzma, sqlite3, ssl, zlib' \
 && /opt/holdfast/bin/holdfast --version \
 && ln -s /opt/holdfast/bin/holdfast /usr/local/bin/holdfast

ENV HOLDFAST_HOME=/tmp/holdfast \
    WORK_DIR=/tmp/holdfast/work
# Relative names are looked up here: workloads.toml, holdfast.toml.
WORKDIR /etc/holdfast
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=10s --start-period=60s --retries=3 \
    CMD ["/opt/holdfast/bin/python", "-I", "-m", "client.commands.health"]
# tini is process 1: it hands signals on to the worker, also to one that is only starting, and reaps what workloads leave.
ENTRYPOINT ["/opt/holdfast/bin/tini-static", "--", "/opt/holdfast/bin/holdfast"]
CMD ["worker"]
