# Policy of all hosts, kept on one server. See ../terraform.md.
terraform {
  required_providers {
    kubernetes = {
      source  = "hashicorp/kubernetes"
      version = "~> 2.30"
    }
  }
}

provider "kubernetes" {
  config_path = "~/.kube/ripstop"
}

resource "kubernetes_manifest" "tier_platform" {
  manifest = {
    apiVersion = "projectcalico.org/v3"
    kind       = "Tier"
    metadata   = { name = "platform" }
    spec       = { order = 100 }
  }
}

resource "kubernetes_manifest" "policy_web" {
  depends_on = [kubernetes_manifest.tier_platform]

  manifest = {
    apiVersion = "projectcalico.org/v3"
    kind       = "GlobalNetworkPolicy"
    metadata   = { name = "web" }
    spec = {
      tier     = "platform"
      selector = "role == 'web'"
      types    = ["Ingress"]
      ingress = [{
        action      = "Allow"
        protocol    = "TCP"
        destination = { ports = [80, 443] }
      }]
    }
  }

  field_manager {
    name            = "terraform"
    force_conflicts = false
  }
}
