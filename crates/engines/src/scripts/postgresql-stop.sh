# Before the stop signal. The official image asks for SIGINT, a fast stop; other images leave it at SIGTERM, with which
# PostgreSQL waits for its clients to leave, until it is killed. After SIGINT, a SIGTERM changes nothing.

read -r pid < /var/lib/database/data/postmaster.pid
kill -INT "$pid"
