# docker build -t world-models .
# docker run --shm-size=1g --cpus=8 --memory=12g -v "$PWD/runs:/srv/world-models/runs" world-models
#
# --shm-size: ranks exchange messages through /dev/shm, of which Docker gives 64 MB. MPICH needs 5.2 MB for each rank,
# an engine of Doom 0.93 MB: 1 GB is enough for 64 ranks of either task.
# --cpus and --memory: make run starts as many ranks as these limits allow.
FROM python:3.11-slim

# git names the commit in a run's manifest. No package is compiled: all have wheels for x86-64.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/world-models
COPY requirements.txt requirements-dev.txt requirements.lock Makefile ./
RUN make .venv/ready PYTHON=python
COPY . .
CMD ["make", "run", "PYTHON=python"]
