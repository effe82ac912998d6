# Serves the hub that is mounted at /hub: docker build -t snow . && docker run -p 127.0.0.1:8000:8000 -v ./my-hub:/hub snow
# On a GPU: docker run --gpus all … snow --device cuda
FROM python:3.12-slim

RUN useradd --create-home --uid 10001 snow
WORKDIR /app
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir ".[serve]"

USER snow
EXPOSE 8000
VOLUME /hub
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["snow", "serve", "/hub", "--host", "0.0.0.0", "--port", "8000"]
