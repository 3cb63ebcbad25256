"""What any program needs: errors, atomic files, progress, output, devices, ranks, plugin discovery."""
