"""mgc, the Memristor GAN Compiler."""
