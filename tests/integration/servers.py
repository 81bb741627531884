"""Servers that the integration tests start, drive from outside and stop."""
import os
import signal
import socket
import subprocess
import time

import harness as h


def wait_until(condition, what, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        h.expect(time.monotonic() < deadline, f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


class Server:
    """Starts a server, drives it with clients that are not traced, and has it end by itself."""

    def drive(self, env, folder, wrap):
        begin = time.monotonic()
        log = open(os.path.join(folder, "server.err"), "wb")
        process = subprocess.Popen([*wrap, *self.argv(folder)], env=env, cwd=folder,
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
                                   start_new_session=True)
        try:
            out = self.clients(folder, process)
            status = process.wait(timeout=30)
        except BaseException:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            with open(log.name, "rb") as file:
                h.say(file.read()[-2000:].decode(errors="replace"))
            raise
        finally:
            log.close()
        return h.Outcome(status, out, b"", time.monotonic() - begin)


class Redis(Server):
    """The server is in the same binary as redis-check-rdb, and goes by its name."""

    def argv(self, folder):
        binary = h.need_program("redis-check-rdb", "redis-tools")
        options = (f"--port 0 --unixsocket {folder}/socket --dir {folder} --save '' --daemonize no "
                   "--appendonly no --io-threads 1")
        return ["bash", "-c", f"exec -a redis-server {binary} {options}"]

    def clients(self, folder, process):
        path = os.path.join(folder, "socket")
        wait_until(lambda: os.path.exists(path) or process.poll() is not None, "redis's socket")

        def command(*args):
            outcome = h.run(["redis-cli", "-s", path, *args], env=h.clean_env())
            h.expect(outcome.status == 0, f"redis-cli {args}: {outcome.stderr.decode()}")
            return outcome.stdout

        out = [command("ping"), command("config", "set", "activedefrag", "no")]
        outcome = h.run(["redis-benchmark", "-s", path, "-q", "-n", "4000", "-c", "8", "-r", "500",
                         "-t", "set,get,incr,lpush,rpop,sadd,hset,zadd"], env=h.clean_env())
        h.expect(outcome.status == 0, f"redis-benchmark: {outcome.stderr.decode()}")
        out.append(command(
            "eval", "for i = 1, 3000 do redis.call('set', 'key:' .. i, string.rep('v', i)) end", "0"))
        out.append(command("set", "long", "x" * 20000))
        out.append(command("bgsave"))
        wait_until(lambda: b"rdb_bgsave_in_progress:0" in command("info", "persistence"), "the save")
        out.append(b"saved" if b"rdb_last_bgsave_status:ok" in command("info", "persistence")
                   else b"not saved")
        out += [command("strlen", "long"), command("strlen", "key:77"), command("del", "long")]
        out.append(command("shutdown", "nosave"))
        out.append(str(os.path.getsize(os.path.join(folder, "dump.rdb")) > 1000).encode())
        return b"\n".join(out)


NGINX_CONFIG = """
daemon off;
worker_processes 2;
pid {folder}/nginx.pid;
error_log {folder}/error.log notice;
events {{ worker_connections 64; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  gzip on; gzip_min_length 100; gzip_types text/plain;
  server {{
    listen unix:{folder}/socket;
    root {folder}/pages;
    location /moved {{ return 302 /page1.txt; }}
  }}
}}
"""


def prepare_nginx(folder):
    os.makedirs(os.path.join(folder, "pages"))
    os.chmod(folder, 0o755)
    for i in range(5):
        with open(os.path.join(folder, "pages", f"page{i}.txt"), "w", encoding="utf-8") as file:
            file.write(f"page {i}\n" * (50 * (i + 1)))
    with open(os.path.join(folder, "nginx.conf"), "w", encoding="utf-8") as file:
        file.write(NGINX_CONFIG.format(folder=folder)
                   if os.geteuid() else "user root;\n" + NGINX_CONFIG.format(folder=folder))


def fetch(path, request):
    """One request over a unix socket; the answer without its date."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(request.encode())
        parts = []
        while data := connection.recv(65536):
            parts.append(data)
    return b"\r\n".join(line for line in b"".join(parts).split(b"\r\n")
                        if not line.startswith((b"Date:", b"Last-Modified:", b"ETag:")))


class Nginx(Server):
    """A master and two workers; stopped by SIGQUIT, as a service manager does."""

    def argv(self, folder):
        return [h.need_program("nginx", "nginx-light"), "-p", folder, "-c", f"{folder}/nginx.conf"]

    def clients(self, folder, process):
        path = os.path.join(folder, "socket")
        wait_until(lambda: os.path.exists(path) and os.path.exists(f"{folder}/nginx.pid")
                   and os.path.getsize(f"{folder}/nginx.pid") > 0, "nginx's socket")
        out = []
        for i in range(300):
            compressed = "Accept-Encoding: gzip\r\n" if i % 3 == 0 else ""
            page = ("/moved", "/none", *(f"/page{k}.txt" for k in range(5)))[i % 7]
            out.append(fetch(path, f"GET {page} HTTP/1.1\r\nHost: localhost\r\n{compressed}"
                                   "Connection: close\r\n\r\n"))
        with open(f"{folder}/nginx.pid", encoding="ascii") as file:
            os.kill(int(file.read()), signal.SIGQUIT)
        return b"\n".join(out)
