variable "name" {
  description = "This installation's name, in the names of everything here."
  type        = string
  default     = "fleetloop"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,24}[a-z0-9]$", var.name))
    error_message = "name: 3 to 26 small letters, digits and hyphens, beginning with a letter."
  }
}

variable "region" {
  description = "AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region: as AWS writes it, such as eu-central-1."
  }
}

variable "zones" {
  description = "Availability zones, at least two."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 4 && length(distinct(var.zones)) == length(var.zones)
    error_message = "zones: two to four different ones, so that the loss of one stops nothing."
  }

  validation {
    condition     = alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "zones: all of them in the region."
  }
}

variable "network" {
  description = "Addresses of the network, a /16 to /20."
  type        = string
  default     = "10.64.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.network)) && can(regex("/(1[6-9]|20)$", var.network))
    error_message = "network: an IPv4 network of /16 to /20."
  }
}

variable "cluster_version" {
  description = "Kubernetes version; the chart needs 1.30."
  type        = string
  default     = "1.33"

  validation {
    condition     = can(regex("^1\\.[0-9]{2}$", var.cluster_version)) && tonumber(split(".", var.cluster_version)[1]) >= 30
    error_message = "cluster_version: 1.30 or later."
  }
}

variable "cluster_public_from" {
  description = "Networks from which the cluster's API is reached over the internet; none: only from inside the network."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for each in var.cluster_public_from : can(cidrhost(each, 0)) && !endswith(each, "/0")])
    error_message = "cluster_public_from: networks such as 203.0.113.0/24, never all of the internet."
  }
}

variable "node_types" {
  description = "Instance types of the nodes."
  type        = list(string)
  default     = ["m7i.large"]

  validation {
    condition     = length(var.node_types) > 0
    error_message = "node_types: at least one."
  }
}

variable "nodes" {
  description = "How many nodes, at least and at most."
  type        = object({ min = number, max = number })
  default     = { min = 3, max = 6 }

  validation {
    condition     = var.nodes.min >= 2 && var.nodes.max >= var.nodes.min
    error_message = "nodes: at least two, and max not below min."
  }
}

variable "database_version" {
  description = "Major version of PostgreSQL."
  type        = string
  default     = "17"

  validation {
    condition     = contains(["15", "16", "17", "18"], var.database_version)
    error_message = "database_version: 15, 16, 17 or 18; others are not tested."
  }
}

variable "database_type" {
  description = "Instance class of the database."
  type        = string
  default     = "db.m7g.large"

  validation {
    condition     = startswith(var.database_type, "db.")
    error_message = "database_type: as AWS writes it, such as db.m7g.large."
  }
}

variable "database_gib" {
  description = "Disk of the database in GiB, at first and at most."
  type        = object({ first = number, most = number })
  default     = { first = 100, most = 1000 }

  validation {
    condition     = var.database_gib.first >= 20 && var.database_gib.most > var.database_gib.first
    error_message = "database_gib: at least 20, and most above first."
  }
}

variable "backup_days" {
  description = "Days for which the database can be brought back to any second."
  type        = number
  default     = 14

  validation {
    condition     = var.backup_days >= 7 && var.backup_days <= 35
    error_message = "backup_days: 7 to 35."
  }
}

variable "object_versions_days" {
  description = "Days for which an object that was deleted or replaced can be brought back."
  type        = number
  default     = 30

  validation {
    condition     = var.object_versions_days >= var.backup_days
    error_message = "object_versions_days: not less than backup_days, or a restored database names objects that are gone."
  }
}

variable "namespace" {
  description = "Kubernetes namespace that the chart is installed in."
  type        = string
  default     = "fleetloop"
}

variable "release" {
  description = "Name of the chart's release, which begins the names of its service accounts."
  type        = string
  default     = "fleetloop"
}

variable "deletion_protection" {
  description = "Whether the database, its last snapshot and the bucket outlive terraform destroy; off for trials only."
  type        = bool
  default     = true
}

variable "tags" {
  description = "Tags on everything."
  type        = map(string)
  default     = {}
}
