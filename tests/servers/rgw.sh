# Ceph's RADOS Gateway from the distribution's packages: one monitor, one OSD in a sparse file, the gateway.
#
# It is here for what is strict and old: it checks MD5 and payload hashes, keeps ACLs and policies, knows no trailing
# checksums, and takes If-Match only without quotes.
PORT=$RGW_PORT

installed() {
  command -v radosgw ceph-mon ceph-osd ceph-authtool monmaptool >/dev/null
}

install_server() {
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends radosgw ceph-mon ceph-osd
}

start_server() {
  local fsid osd_id
  fsid=$(cat /proc/sys/kernel/random/uuid)
  osd_id=$(cat /proc/sys/kernel/random/uuid)
  export CEPH_CONF=$HOME_OF/data/ceph.conf
  mkdir -p "$HOME_OF/data/mon" "$HOME_OF/data/osd" "$HOME_OF/data/run"
  configure "$fsid" >"$CEPH_CONF"

  start_monitor "$fsid"
  start_osd "$osd_id"
  radosgw-admin user create --uid=tests --display-name=tests \
    --access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY" >"$HOME_OF/user.log" 2>&1
  daemon radosgw radosgw -f -n client.rgw
}

start_monitor() {
  local data=$HOME_OF/data
  {
    ceph-authtool --create-keyring "$data/keyring" --gen-key -n mon. --cap mon 'allow *'
    monmaptool --create --fsid "$1" --addv a "$(monitor_addresses)" "$data/monmap"
    ceph-mon --mkfs -i a --monmap "$data/monmap" --keyring "$data/keyring"
  } >"$HOME_OF/prepare.log" 2>&1
  daemon mon ceph-mon -f -i a
  within 20 timeout 5 rados lspools
}

start_osd() {
  admin osd new "$1" >>"$HOME_OF/prepare.log" 2>&1
  ceph-osd --mkfs -i 0 --osd-uuid "$1" >>"$HOME_OF/prepare.log" 2>&1
  daemon osd ceph-osd -f -i 0
  within 40 osd_is_up
}

osd_is_up() {
  admin osd stat 2>&1 | grep -q '1 up'
}

# Ceph's command is a Python script that needs the distribution's Python, not one that stands before it in PATH.
admin() {
  /usr/bin/python3 "$(command -v ceph)" "$@"
}

monitor_addresses() {
  echo "[v2:127.0.0.1:$((PORT + 1)),v1:127.0.0.1:$((PORT + 2))]"
}

# One replica, one placement group and quick rounds of consensus: the cluster is up in 6 s instead of 16. Without cephx the
# gateway's monitor client must not ask for a secure connection, or it waits for ever.
configure() {
  local data=$HOME_OF/data
  cat <<INI
[global]
fsid = $1
mon_host = $(monitor_addresses)
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_port_min = $((PORT + 10))
ms_bind_port_max = $((PORT + 59))
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pgp_num = 1
osd_pool_default_pg_autoscale_mode = off
rgw_rados_pool_pg_num_min = 1
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 2000
mon_data_avail_warn = 1
mon_data_avail_crit = 1
osd_crush_chooseleaf_type = 0
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
keyring = $data/keyring
run_dir = $data/run
crash_dir = $data/run
admin_socket = $data/run/\$name.asok
log_file = $data/run/\$name.log
mon_cluster_log_file = $data/run/cluster.log

[mon]
mon_data = $data/mon

[osd]
osd_data = $data/osd
osd_objectstore = bluestore
bluestore_block_size = 21474836480
osd_memory_target = 1073741824
osd_max_object_name_len = 2048

[client]
rgw_data = $data/run
rgw_dns_name = localhost
rgw_enable_usage_log = false
rgw_thread_pool_size = 64
rgw_frontends = beast endpoint=127.0.0.1:$PORT
INI
}
