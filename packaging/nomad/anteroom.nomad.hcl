# Anteroom on the clients of a Nomad cluster that have KVM and the Debian package (docs/install.md). Not run: the tests only parse it.
# The package's own unit is stopped and disabled there: `systemctl disable --now anteroom`.

job "anteroom" {
  type        = "system"
  datacenters = ["*"]

  # `nomad node meta apply anteroom=kvm`
  constraint {
    attribute = "${meta.anteroom}"
    value     = "kvm"
  }

  # Machines end with their task: one client after the other, each after `anteroom host drain NAME --deadline 3600` (docs/cluster.md).
  update {
    max_parallel = 1
    stagger      = "65m"
  }

  group "server" {
    network {
      port "http" {
        static = 7060
      }
      port "peers" {
        static = 7061
      }
    }

    service {
      name     = "anteroom"
      port     = "http"
      provider = "nomad"

      check {
        type     = "tcp"
        interval = "5s"
        timeout  = "3s"
      }
    }

    task "anteroom" {
      driver       = "raw_exec"
      user         = "anteroom"
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      config {
        command = "/usr/bin/anteroom"
        args    = ["serve"]
      }

      # vault.key, the same for all hosts, and database_password: files of mode 0400 that belong to the user anteroom.
      env {
        ANTEROOM_CONFIG       = "${NOMAD_TASK_DIR}/anteroom.toml"
        CREDENTIALS_DIRECTORY = "/etc/anteroom/credentials"
      }

      template {
        destination   = "local/anteroom.toml"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = <<-EOF
          state_dir = "/var/lib/anteroom"
          cache_dir = "/var/cache/anteroom"
          listen = "0.0.0.0:7060"
          public_url = "https://anteroom.example"
          [database]
          url = "postgresql://anteroom@postgres.example/anteroom?sslmode=verify-full"
          [cluster]
          name = "production"
          host_name = "{{ env "node.unique.name" }}"
          peer_url = "https://{{ env "attr.unique.network.ip-address" }}:7061"
          [cluster.etcd]
          endpoints = ["https://etcd-1.example:2379", "https://etcd-2.example:2379", "https://etcd-3.example:2379"]
          ca_file = "/etc/anteroom/etcd/ca.pem"
          certificate_file = "/etc/anteroom/etcd/client.pem"
          key_file = "/etc/anteroom/etcd/client.key"
        EOF
      }

      resources {
        cpu    = 2000
        memory = 4096
      }

      restart {
        attempts = 20
        interval = "1m"
        delay    = "1s"
        mode     = "delay"
      }
    }
  }
}
