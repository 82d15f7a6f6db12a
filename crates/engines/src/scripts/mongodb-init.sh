# Makes MongoDB's data directory. See volume.sh for the frame. NOT YET RUN against a real server.
#
# Fixed choice: a replica set of one from birth. The server that makes the users already demands a login; the first user is
# made by the exception for an empty server's own host. Passwords are read by the shell's script, from the files.

main_file=mongod.conf
admin=/etc/database/admin

make_data() { # DIRECTORY
    mkdir "$1"
    # Members know each other by this key. It follows from the Secret, so every member of this Database has the same.
    sha256sum < "$admin/password" | cut -c 1-64 > "$run/keyfile"
    mongod --dbpath "$1" --port 27017 --bind_ip_all --unixSocketPrefix "$run" --replSet rs0 \
        --keyFile "$run/keyfile" --auth --fork --logpath "$run/initialise.log"
    HOST=$(hostname -f) HOME=/tmp mongosh --quiet --norc --host 127.0.0.1 --eval '
        const read = key => fs.readFileSync("/etc/database/admin/" + key, "utf8").trim();
        rs.initiate({_id: "rs0", members: [{_id: 0, host: process.env.HOST + ":27017"}]});
        while (!db.hello().isWritablePrimary) sleep(100);
        const root = db.getSiblingDB("admin");
        root.createUser({user: read("username"), pwd: read("password"), roles: ["root"]});
        root.auth(read("username"), read("password"));
        db.getSiblingDB(read("app-database")).createUser({
            user: read("app-username"), pwd: read("app-password"),
            roles: [{role: "dbOwner", db: read("app-database")}],
        });'
    mongod --dbpath "$1" --shutdown
    rm -f "$run/initialise.log"
}
