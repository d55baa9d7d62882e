# One image for everything: `tocsin worker`, `tocsin api`, `tocsin serve`, `tocsin replay`. What is healthy differs from
# command to command, so health checks are in docker-compose.yml.
FROM python:3.12-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE tocsin.py ./
COPY flows flows
COPY operators operators
COPY query_api query_api
COPY connectors connectors
COPY rules rules
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[postgres,redis,registry]'

FROM python:3.12-slim-bookworm
# Volumes that are mounted here begin with these owners.
RUN useradd --create-home --uid 10001 tocsin && install -d -o tocsin -g tocsin /data /recovery /keys
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'tocsin[postgres,redis,registry]'
USER tocsin
WORKDIR /home/tocsin
# Compiled here once, for any processor of this architecture.
ENV NUMBA_CPU_NAME=generic
RUN python -c 'from connectors.formats import jsonl; from connectors.kafka import native; from operators import rollup; jsonl.warm(); native.warm(); rollup.warm()'
ENV TOCSIN_DATA=/data
VOLUME /data
# Without a shell in between: SIGTERM reaches Tocsin, which finishes what is under way.
ENTRYPOINT ["tocsin"]
CMD ["--help"]
