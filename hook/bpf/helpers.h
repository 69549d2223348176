/* The kernel's helpers that the programs call; none is GPL-only. Numbers and signatures: linux/bpf.h. */
#ifndef UVS_HELPERS_H
#define UVS_HELPERS_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/pkt_cls.h>

#include "layout.h"

static void *(*const bpf_map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static long (*const bpf_map_update_elem)(void *map, const void *key, const void *value, u64 flags) =
	(void *)BPF_FUNC_map_update_elem;
static long (*const bpf_skb_load_bytes)(const void *skb, u32 offset, void *to, u32 len) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*const bpf_skb_store_bytes)(struct __sk_buff *skb, u32 offset, const void *from, u32 len, u64 flags) =
	(void *)BPF_FUNC_skb_store_bytes;
static long (*const bpf_l4_csum_replace)(struct __sk_buff *skb, u32 offset, u64 from, u64 to, u64 flags) =
	(void *)BPF_FUNC_l4_csum_replace;
static long (*const bpf_redirect)(u32 ifindex, u64 flags) = (void *)BPF_FUNC_redirect;
static long (*const bpf_skb_vlan_push)(struct __sk_buff *skb, u32 protocol, u32 tci) = (void *)BPF_FUNC_skb_vlan_push;
static long (*const bpf_skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) =
	(void *)BPF_FUNC_skb_change_tail;
static long (*const bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 by, u32 mode, u64 flags) =
	(void *)BPF_FUNC_skb_adjust_room;
static u64 (*const bpf_ktime_get_ns)(void) = (void *)BPF_FUNC_ktime_get_ns;
static u64 (*const bpf_ktime_get_coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static u32 (*const bpf_get_prandom_u32)(void) = (void *)BPF_FUNC_get_prandom_u32;
static long (*const bpf_map_delete_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_delete_elem;
static long (*const bpf_ringbuf_output)(void *ring, void *data, u64 size, u64 flags) =
	(void *)BPF_FUNC_ringbuf_output;

#define swap16(x) __builtin_bswap16((u16)(x))

#ifndef IPPROTO_SCTP
#define IPPROTO_SCTP 132
#endif
#define IPPROTO_V4 4
#define IPPROTO_V6 41

#endif
