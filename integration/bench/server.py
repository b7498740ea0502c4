# A threaded server, as a course's reference would be.
import os
import socket
import sys
import threading


def exactly(conn, want):
    got = b""
    while len(got) < len(want):
        data = conn.recv(len(want) - len(got))
        if not data:
            raise EOFError
        got += data
    if got != want:
        raise ValueError(got)


def serve(conn, path):
    with conn:
        conn.settimeout(10)
        try:
            conn.sendall(b"accio\r\n")
            exactly(conn, b"confirm-accio\r\n")
            conn.sendall(b"accio\r\n")
            exactly(conn, b"confirm-accio-again\r\n\r\n")
            with open(path + ".part", "wb") as file:
                while data := conn.recv(65536):
                    file.write(data)
            os.replace(path + ".part", path)
        except (OSError, EOFError, ValueError):
            with open(path, "wb") as file:
                file.write(b"ERROR")


with socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=128) as listener:
    number = 0
    while True:
        conn, _ = listener.accept()
        number += 1
        path = os.path.join(sys.argv[2], f"{number}.file")
        threading.Thread(target=serve, args=(conn, path), daemon=True).start()
