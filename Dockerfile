FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE tocsin.py ./
COPY flows flows
COPY operators operators
COPY query_api query_api
COPY connectors connectors
COPY rules rules
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.12-slim
RUN useradd --create-home --uid 10001 tocsin && install -d -o tocsin -g tocsin /data
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels tocsin
USER tocsin
WORKDIR /home/tocsin
# Compiled here once, for any processor of this architecture.
ENV NUMBA_CPU_NAME=generic
RUN python -c 'from connectors.formats import jsonl; jsonl.warm()'
ENV TOCSIN_DATA=/data
VOLUME /data
ENTRYPOINT ["tocsin"]
CMD ["--help"]
