"""The ear of an OpenTelemetry collector: OTLP metrics over HTTP as JSON, decoded by the classes of OTLP's own schema.

    collector.py REFUSALS

Prints the port that it listens on, then a line of JSON for each request. The first REFUSALS of them it answers as a collector
that is too busy does. What the schema does not know is an error, and ends it.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

refusals = int(sys.argv[1])


def say(what):
    print(json.dumps(what), flush=True)


def attributes(of):
    return {attribute.key: attribute.value.string_value for attribute in of}


def data_point(kind, point):
    seen = {"attributes": attributes(point.attributes), "start": point.start_time_unix_nano, "at": point.time_unix_nano}
    if kind == "histogram":
        counts = {"count": point.count, "buckets": list(point.bucket_counts), "bounds": list(point.explicit_bounds)}
        return seen | counts
    return seen | {"value": getattr(point, point.WhichOneof("value"))}


def metric(one):
    kind = one.WhichOneof("data")
    data = getattr(one, kind)
    seen = {"kind": kind, "description": one.description, "unit": one.unit}
    if kind != "gauge":
        seen["temporality"] = AggregationTemporality.Name(data.aggregation_temporality)
    if kind == "sum":
        seen["monotonic"] = data.is_monotonic
    return seen | {"points": [data_point(kind, point) for point in data.data_points]}


class Ear(BaseHTTPRequestHandler):
    def do_POST(self):
        global refusals
        body = self.rfile.read(int(self.headers["content-length"]))
        if refusals > 0:
            refusals -= 1
            say({"refused": True})
            self.send_response(503)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        request = Parse(body, ExportMetricsServiceRequest())
        [resource] = request.resource_metrics
        [scope] = resource.scope_metrics
        metrics = {one.name: metric(one) for one in scope.metrics}
        assert len(metrics) == len(scope.metrics), "a name comes twice"
        say({
            "path": self.path,
            "type": self.headers["content-type"],
            "authorization": self.headers["authorization"],
            "resource": attributes(resource.resource.attributes),
            "metrics": metrics,
        })
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


class Server(HTTPServer):
    def handle_error(self, request, address):
        raise


server = Server(("127.0.0.1", 0), Ear)
say(server.server_port)
server.serve_forever()
