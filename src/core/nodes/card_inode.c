// SPDX-License-Identifier: GPL-2.0-only
/*
 * A card's own inode: what its nodes' files are mapped by, instead of by the inodes of /dev,
 * of which a card may have several (a container's, one made by hand). So all mappings of a
 * card's registers are found at one place when they have to go.
 */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pseudo_fs.h>

#include "card_node.h"

#define PCIEDMA_FS_MAGIC	0x70636965

static struct vfsmount *fs_mount;
static int fs_count;

static int fs_init_context(struct fs_context *context)
{
	return init_pseudo(context, PCIEDMA_FS_MAGIC) ? 0 : -ENOMEM;
}

static struct file_system_type fs_type = {
	.name			= "pciedma",
	.owner			= THIS_MODULE,
	.init_fs_context	= fs_init_context,
	.kill_sb		= kill_anon_super,
};

/**
 * pciedma_inode_alloc() - make an inode of nobody's but a card's
 *
 * Context: process.
 * Return: the inode, to be given back with pciedma_inode_free(), or an ERR_PTR.
 */
struct inode *pciedma_inode_alloc(void)
{
	struct inode *inode;
	int ret;

	ret = simple_pin_fs(&fs_type, &fs_mount, &fs_count);
	if (ret)
		return ERR_PTR(ret);
	inode = alloc_anon_inode(fs_mount->mnt_sb);
	if (IS_ERR(inode))
		simple_release_fs(&fs_mount, &fs_count);
	return inode;
}

/**
 * pciedma_inode_free() - give it back
 * @inode: it; no file is open by which it could be mapped
 *
 * Context: process.
 */
void pciedma_inode_free(struct inode *inode)
{
	iput(inode);
	simple_release_fs(&fs_mount, &fs_count);
}
