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

  # Machines end with their task: one client after the other.
  update {
    max_parallel = 1
    stagger      = "65m"
  }

  group "server" {
    network {
      port "http" {
        static = 7060
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

      env {
        ANTEROOM_CONFIG = "/etc/anteroom/anteroom.toml"
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
