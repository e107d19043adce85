#!/bin/sh
# Mirrors a list of files from an HTTP server into a bucket, or an image from a registry into another, with one tool, as its users do.
#
#   peers.sh TOOL        what to do comes from benches/peers.rs, in variables:
#   ORIGIN  http://127.0.0.1:PORT, below which the paths of the list are
#   PATHS   a file with one path a line; a file's digest is at its path with .sha256 at the end
#   LIST    the same files as `kops get assets -o json` lists them
#   BUCKET, ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION
#   FROM_IMAGE, TO_IMAGE   HOST:PORT/NAME:TAG at registries that speak plain HTTP, for tools that carry images
#   KOPS_MIRROR, WORK    the program, and an empty folder
#
# Exits with 77 when the tool is not installed.
set -eu

# The servers speak plain HTTP, and older versions of rclone do not start with this.
unset AWS_CA_BUNDLE

need() {
    for tool; do
        command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 77; }
    done
}

# The recipe raises the multipart threshold so that ETags stay MD5.
aws_sync() {
    AWS_CONFIG_FILE=$WORK/aws.conf
    export AWS_CONFIG_FILE
    aws configure set default.s3.multipart_threshold 1024MB
    aws s3 sync --only-show-errors --endpoint-url "$ENDPOINT" "$WORK/files" "s3://$BUCKET"
}

both() {
    while read -r path; do
        printf '%s/%s\n' "$ORIGIN" "$path" "$ORIGIN" "$path.sha256"
    done <"$PATHS"
}

# Sixteen connections is the most that aria2 takes for a file, and 1 MiB the least that it gives one.
aria2() {
    need aria2c aws
    both | while read -r url; do
        printf '%s\n out=%s\n' "$url" "${url#"$ORIGIN"/}"
    done >"$WORK/urls"
    aria2c -q -d "$WORK/files" -i "$WORK/urls" -x 16 -s 16 -k 1M --file-allocation=none "$@"
    aws_sync
}

# Eight files at a time, from an HTTP remote or into the bucket; the cut-off is raised so that ETags stay MD5.
rclone_copy() {
    need rclone
    export RCLONE_CONFIG="$WORK/rclone.conf"
    export RCLONE_S3_PROVIDER=Other RCLONE_S3_ENDPOINT="$ENDPOINT" RCLONE_S3_ENV_AUTH=true
    export RCLONE_S3_UPLOAD_CUTOFF=5G RCLONE_S3_NO_CHECK_BUCKET=true
    both | sed "s|^$ORIGIN/||" >"$WORK/paths"
    rclone copy --http-url "$ORIGIN" --files-from-raw "$WORK/paths" --no-traverse --transfers 8 "$@"
}

case $1 in
kops-mirror)
    "$KOPS_MIRROR" sync --assets "$LIST" --origin "dl.k8s.io=$ORIGIN" --to "s3://$BUCKET" \
        --endpoint "$ENDPOINT" --spool "$WORK/spool" --quiet
    ;;
wget)
    need wget aws
    both | while read -r url; do
        wget -q -x -nH -P "$WORK/files" "$url"
    done
    aws_sync
    ;;
aria2)
    aria2
    ;;
aria2-wide)
    aria2 -j 16
    ;;
rclone)
    rclone_copy :http: ":s3:$BUCKET"
    ;;
rclone-multithread)
    # Only into a folder does every version of it fetch a file over several connections.
    rclone_copy --multi-thread-cutoff 4M --multi-thread-streams 16 :http: "$WORK/files"
    rclone_copy "$WORK/files" ":s3:$BUCKET"
    ;;
skopeo)
    # It takes six layers at a time by itself; without --preserve-digests it would compress the noise, which makes another image of it.
    need skopeo
    skopeo copy --all --preserve-digests --insecure-policy --src-tls-verify=false --dest-tls-verify=false \
        "docker://$FROM_IMAGE" "docker://$TO_IMAGE"
    ;;
*)
    echo "no recipe for $1"
    exit 2
    ;;
esac
