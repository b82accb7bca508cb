"""Answers of an admission webhook; runs in a pod, whose Python has nothing of the tests."""

import base64
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IMAGE = sys.argv[1]
SIDECAR = {"name": "proxy", "image": IMAGE, "command": ["sleep", "600"]}
NATIVE = SIDECAR | {"restartPolicy": "Always"}
#: By the path of a configuration: what it changes, as a JSON patch.
PATCHES = {
    "/sidecar": [{"op": "add", "path": "/spec/containers/-", "value": SIDECAR}],
    "/native": [{"op": "add", "path": "/spec/initContainers", "value": [NATIVE]}],
    "/labels": [{"op": "replace", "path": "/metadata/labels", "value": {"cost-centre": "42"}}],
}


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        answer = {"uid": review["request"]["uid"], "allowed": path in PATCHES}
        if path in PATCHES:
            patch = base64.b64encode(json.dumps(PATCHES[path]).encode()).decode()
            answer |= {"patchType": "JSONPatch", "patch": patch}
        else:
            answer["status"] = {"code": 403, "message": "pods of this team need a cost centre"}
        body = json.dumps(review | {"response": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


server = ThreadingHTTPServer(("", 8443), Answer)
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/webhook/tls.crt", "/webhook/tls.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
