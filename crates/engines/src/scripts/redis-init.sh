# Makes Redis' data directory: an empty one, which Redis fills with its append-only file and snapshots.

main_file=redis.conf

make_data() { # DIRECTORY
    mkdir "$1"
}
