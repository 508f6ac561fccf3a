#!/bin/sh
# Run once by the primary of compose.yaml, on its empty data directory: the roles, the database, and who may replicate it.
# By hand it does the same on any server, as an administrator of it.
set -eu
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
    --set owner="$OWNER_PASSWORD" --set app="$APP_PASSWORD" --set replication="$REPLICATION_PASSWORD" <<'SQL'
CREATE ROLE gatehouse_owner LOGIN PASSWORD :'owner' CREATEDB;
CREATE ROLE gatehouse_app LOGIN PASSWORD :'app';
CREATE ROLE gatehouse_replication LOGIN REPLICATION PASSWORD :'replication';
CREATE DATABASE gatehouse OWNER gatehouse_owner;
ALTER ROLE gatehouse_app SET statement_timeout = '30s';
ALTER ROLE gatehouse_app SET lock_timeout = '5s';
ALTER ROLE gatehouse_app SET idle_in_transaction_session_timeout = '60s';
SQL
echo "host replication gatehouse_replication all scram-sha-256" >>"$PGDATA/pg_hba.conf"
