"""gRPC's own library on both sides of pillion: `serve` is the upstream, `call ADDRESS [CA]` the app.

Messages are bytes and mean nothing, so there is no schema. Both say what has happened as a line of JSON.
"""

import json
import queue
import sys
import threading
import time
from concurrent import futures

import grpc

SERVICE = "test.Test"


class Upstream:
    """Takes every token until `Revoke` is called with it."""

    def __init__(self):
        self.revoked = set()
        self.cancelled = threading.Semaphore(0)

    def admit(self, context):
        token = dict(context.invocation_metadata()).get("authorization", "")
        if not token.startswith("Bearer ") or token in self.revoked:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is no good")
        return token

    def echo(self, request, context):
        self.admit(context)
        context.set_trailing_metadata([("x-length", str(len(request))), ("x-raw-bin", b"\x00\xff")])
        return request

    def revoke(self, request, context):
        self.revoked.add(self.admit(context))
        return request

    def fail(self, request, context):
        self.admit(context)
        context.abort(grpc.StatusCode.NOT_FOUND, "größe 100%")

    def sleep(self, request, context):
        self.admit(context)
        context.add_callback(self.cancelled.release)
        while context.is_active():
            time.sleep(0.01)
        return request

    def was_cancelled(self, request, context):
        self.admit(context)
        return b"yes" if self.cancelled.acquire(timeout=5) else b"no"

    def tell(self, requests, context):
        self.admit(context)
        return str(sum(len(request) for request in requests)).encode()

    def listen(self, request, context):
        self.admit(context)
        for number in range(int(request)):
            yield str(number).encode()

    def talk(self, requests, context):
        self.admit(context)
        for request in requests:
            yield b"re " + request

    def late(self, request, context):
        """Finds out about the token after the first message."""
        yield b"a part"
        self.admit(context)
        yield b"the rest"


def serve():
    upstream = Upstream()
    unary = grpc.unary_unary_rpc_method_handler
    handlers = {
        "Echo": unary(upstream.echo),
        "Revoke": unary(upstream.revoke),
        "Fail": unary(upstream.fail),
        "Sleep": unary(upstream.sleep),
        "WasCancelled": unary(upstream.was_cancelled),
        "Tell": grpc.stream_unary_rpc_method_handler(upstream.tell),
        "Listen": grpc.unary_stream_rpc_method_handler(upstream.listen),
        "Late": grpc.unary_stream_rpc_method_handler(upstream.late),
        "Talk": grpc.stream_stream_rpc_method_handler(upstream.talk),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=50))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(json.dumps({"api": f"127.0.0.1:{port}"}), flush=True)
    sys.stdin.read()  # until whoever has started it is gone


class App:
    def __init__(self, address, ca):
        if ca is None:
            self.channel = grpc.insecure_channel(address)
        else:
            with open(ca, "rb") as file:
                credentials = grpc.ssl_channel_credentials(file.read())
            self.channel = grpc.secure_channel(address, credentials)

    def unary(self, method, request=b"", **more):
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, timeout=20, **more)

    def status(self, call):
        try:
            call()
        except grpc.RpcError as error:
            return [error.code().name, error.details()]
        return ["OK", ""]

    def stories(self):
        yield "echo", self.unary("Echo", b"hello").decode()
        large = bytes(range(256)) * 12_000
        yield "large", self.unary("Echo", large) == large
        echo = self.channel.unary_unary(f"/{SERVICE}/Echo")
        _, call = echo.with_call(b"abc", metadata=[("x-key-bin", b"\x01\x02")])
        trailers = dict(call.trailing_metadata())
        yield "trailers", [trailers["x-length"], list(trailers["x-raw-bin"])]
        calls = [echo.future(str(number).encode()) for number in range(300)]
        yield "at_once", sum(int(call.result()) for call in calls)
        tell = self.channel.stream_unary(f"/{SERVICE}/Tell")
        yield "tell", tell(iter([b"x" * 10_000] * 100), timeout=20).decode()
        listen = self.channel.unary_stream(f"/{SERVICE}/Listen")
        yield "listen", sum(int(message) for message in listen(b"1000", timeout=20))
        yield "talk", self.talk()
        yield "fail", self.status(lambda: self.unary("Fail"))
        # It is told by whoever looks at the clock first, in words of its own.
        code, _words = self.status(lambda: self.channel.unary_unary(f"/{SERVICE}/Sleep")(b"", timeout=0.5))
        yield "deadline", code
        yield "deadline_seen", self.unary("WasCancelled").decode()
        call = self.channel.unary_unary(f"/{SERVICE}/Sleep").future(b"", timeout=20)
        time.sleep(0.2)
        call.cancel()
        yield "cancel_seen", self.unary("WasCancelled").decode()
        self.unary("Revoke")
        yield "renewed", self.unary("Echo", b"again").decode()
        self.unary("Revoke")
        yield "renewed_stream", tell(iter([b"abc", b"def"]), timeout=20).decode()
        self.unary("Revoke")
        late = self.channel.unary_stream(f"/{SERVICE}/Late")
        yield "too_late", self.status(lambda: list(late(b"", timeout=20)))
        yield "and_then", [message.decode() for message in late(b"", timeout=20)]
        nowhere = self.channel.unary_unary("/elsewhere/Call")
        yield "no_route", self.status(lambda: nowhere(b"", timeout=20))

    def talk(self):
        said = queue.Queue()
        answers = self.channel.stream_stream(f"/{SERVICE}/Talk")(iter(said.get, None), timeout=20)
        heard = []
        for number in range(50):
            said.put(str(number).encode())
            heard.append(next(answers).decode())
        said.put(None)
        return heard == [f"re {number}" for number in range(50)] and list(answers) == []


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        address, *ca = sys.argv[2:]
        print(json.dumps(dict(App(address, *(ca or [None])).stories())), flush=True)
