import http.server
import socketserver
import threading

import pytest

from countersign.console.errors import InfrastructureError
from lab.bench import gauges

TEXT = """# HELP countersign_verifications_total Judgements
# TYPE countersign_verifications_total counter
countersign_verifications_total 3
countersign_verdicts_total{code="OK",layer="create"} 12
process_resident_memory_bytes 3.3554432e+07
"""


def test_samples_without_labels_are_read():
    assert gauges.parse(TEXT) == {"countersign_verifications_total": 3.0, "process_resident_memory_bytes": 33554432.0}


def test_metrics_come_from_the_gates_socket(tmp_path):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(TEXT.encode())

        def log_message(self, *_): ...

        def address_string(self):
            return ""

    path = str(tmp_path / "m.sock")
    with socketserver.UnixStreamServer(path, Handler) as server:
        threading.Thread(target=server.handle_request).start()
        assert gauges.verifications(path) == 3


def test_a_gate_that_is_down_is_one_line(tmp_path):
    with pytest.raises(InfrastructureError, match=r"m\.sock: no metrics \("):
        gauges.metrics(str(tmp_path / "m.sock"))


def test_the_machine_is_described():
    found = gauges.machine()
    assert found["cores"] >= 1
    assert found["cpu"]
